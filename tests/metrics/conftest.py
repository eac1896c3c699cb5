"""A small real archive, a generator of sine waves and a dual encoder of mean colours, shared by the
metric tests.
"""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from datasets.archive import Picture, write_archive
from metrics.pictures.generator_subject import GeneratorSubject
from networks.interfaces import Codes, Generator
from networks.pretrained.inception import FidInception
from networks.text_encoders.hashed import HashedEncoder
from torch_utils.rng import generator_for

RESOLUTION = 16
NUM_TEST = 12


class Waves(Generator):
    """Every channel is a sine wave over the plane whose frequency and phase follow latent and
    sentence.
    """

    latent_shape = (3, 3)
    config = SimpleNamespace(text_noise=0.0)

    def __init__(self):
        super().__init__(token_shape=(3, 3))
        weight = torch.randn(64, 9, generator=generator_for("waves"))
        self.text = torch.nn.Parameter(weight, requires_grad=False)
        self.num_rendered = 0

    def mapping(self, z, text):
        return Codes(z + (text.sentence @ self.text).reshape(z.shape), text.sentence)

    def prepare(self, codes, view):
        return codes.tokens, view

    def render(self, prepared, rows, columns):
        tokens, view = prepared
        x, y = view.points(rows, columns, tokens.device)
        self.num_rendered += len(tokens)
        a, b, phase = (t[..., None, None] for t in tokens.unbind(dim=2))
        return torch.sin(a * y + b * x + phase)


class Colours(HashedEncoder):
    """Hashed text; pictures by their 2 x 2 mean colours through a fixed random matrix."""

    def __init__(self, id):
        super().__init__()
        self.id = id
        self.matrix = torch.randn(12, 64, generator=generator_for("colours", id))

    def encode_image(self, images):
        return torch.nn.functional.adaptive_avg_pool2d(images, 2).flatten(1) @ self.matrix


def _write_pictures(path, seed=0):
    rng = np.random.default_rng(seed)
    pictures = []
    for i in range(NUM_TEST + 8):
        image = rng.integers(0, 256, (RESOLUTION, RESOLUTION, 3), dtype=np.uint8)
        captions = (f"thing number {i}", f"a picture of {i}")
        pictures.append(Picture(image, f"id{i}", captions, "test" if i < NUM_TEST else "train"))
    write_archive(
        path,
        pictures,
        (RESOLUTION, RESOLUTION),
        {"name": "noise", "licence": "CC0", "resize_filter": "none", "source": "numpy"},
    )
    return path


@pytest.fixture(scope="session")
def write_pictures():
    """write_pictures(path, seed) makes an archive of noise and returns its path."""
    return _write_pictures


@pytest.fixture(scope="session")
def archive(tmp_path_factory):
    return _write_pictures(tmp_path_factory.mktemp("data") / "noise.zip")


@pytest.fixture
def encoders():
    return {"small": Colours("one"), "small-heldout": Colours("two")}


@pytest.fixture
def subject(encoders):
    return GeneratorSubject(Waves(), encoders["small"], "small", RESOLUTION)


@pytest.fixture(scope="session")
def random_inception(tmp_path_factory):
    """Inception's weights drawn at random, lively enough that features differ; a stand-in for the
    real file.
    """
    path = tmp_path_factory.mktemp("weights") / "inception.pth"
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = FidInception()
        for part in model.modules():
            if isinstance(part, torch.nn.Conv2d):
                torch.nn.init.kaiming_normal_(part.weight)
            if isinstance(part, torch.nn.BatchNorm2d):
                part.running_mean.normal_(0, 0.1)
    torch.save(model.net.state_dict(), path)
    return path
