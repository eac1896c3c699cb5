"""A training step on a simulated GPU: devices and dtypes match, and only the tick waits for it."""

from __future__ import annotations

import contextlib
from dataclasses import replace

import pytest
import torch

from configs import RECIPES, recipe
from datasets.patches import PatchConfig
from networks.discriminators import (
    DISCRIMINATORS,
    DcganDiscriminatorConfig,
    FrozenFeaturesConfig,
    Stylegan2DiscriminatorConfig,
)
from networks.generators import GENERATORS, preset
from networks.interfaces import TextFeatures
from networks.layers.vector_quantizer import FeatureQuantizer, VectorQuantizerConfig
from networks.snapshot import Snapshot
from networks.text_encoders.cache import CachedTextEncoder
from networks.text_encoders.hashed import HashedEncoder
from tests.fake_gpu.device import CUDA, DeviceFault, fake_gpu
from tests.networks.sizes import SMALL_FROZEN
from torch_utils import distributed
from torch_utils.tensors import to_device
from training.augment import NUM_UNIFORMS, Augmentation
from training.config import AugmentConfig, EmaConfig, TextConfig
from training.loss_config import LossConfig
from training.step_graph import StepGraphs
from training.trainer import Trainer

CAPTIONS = ["a cat", "a dog on a mat", "rain", "two red birds"]
# A recipe of each system but EIDGAN, with the discriminator on frozen features. The tests below
# train EIDGAN, and the wavelet discriminator, with every term of the losses.
FAMILIES = tuple(
    f"{system}-openmoji64"
    for system in ("crepsclip", "inrganclip", "cipsclip", "stylegan2clip", "vqcgan")
)
FROZEN = replace(
    recipe("eidgan-flowers64"),
    resolution=32,
    generator=preset("eidgan-tiny"),
    discriminator=FrozenFeaturesConfig(resolution=32, **SMALL_FROZEN),
)
SMALL = replace(
    recipe("debug"),
    recipe="dcgan",
    generator=preset("vqcgan-tiny"),
    loss=LossConfig(r1_gamma=0.0),
    discriminator=DcganDiscriminatorConfig(resolution=32, channel_base=256, feature_dim=64),
)
RESIDUAL = replace(
    recipe("debug"),
    recipe="stylegan2",
    generator=preset("stylegan2-tiny"),
    loss=LossConfig(r1_gamma=0.0),
    discriminator=Stylegan2DiscriminatorConfig(
        resolution=32, channel_base=256, channel_max=32, sentence_dim=64, group_size=2
    ),
)


class Towers:
    """An encoder with random features, those of pictures by a projection on the device."""

    id = "towers"

    def __init__(self, sentence_dim, word_dim):
        self.sentence_dim, self.word_dim = sentence_dim, word_dim
        self.projection = torch.randn(sentence_dim, 48).to(CUDA)

    def encode_text(self, captions):
        n = len(captions)
        mask = torch.arange(5) < torch.full((n, 1), 3)
        sentence, words = torch.randn(n, self.sentence_dim), torch.randn(n, 5, self.word_dim)
        return TextFeatures(sentence, words, mask).to(CUDA)

    def encode_image(self, images):
        return torch.nn.functional.adaptive_avg_pool2d(images, 4).flatten(1) @ self.projection.T


def trainer_of(config, text_encoder=None):
    size = (64, 64) if config.text_encoder == "hashed" else (256, 384)
    # A simulated GPU has no graphs.
    config = replace(config, batch=4, cuda_graph="off").for_encoder(*size)
    return Trainer(config, Towers(*size), CUDA, text_encoder)


def step(trainer, gpu):
    side = trainer.config.resolution
    images = torch.zeros(4, 3, side, side, dtype=torch.uint8).pin_memory()
    with gpu.rules():
        trainer.step(images, CAPTIONS)
    for player in (trainer.player_d, trainer.player_g):
        for parameter in player.parameters:
            assert parameter.device == CUDA and parameter.dtype == torch.float32
            assert parameter.grad is None or parameter.grad.dtype == torch.float32


def everything(**fields):
    """A config with every term of both losses; the first step is a multiple of all intervals."""
    base = recipe("debug")
    loss = replace(base.loss, cond=1.0, cong=1.0, matching_aware_gp=2.0)
    augment = replace(base.augment, p=0.2, rotation=0.1)
    return replace(
        base,
        loss=loss,
        text=TextConfig(noise=0.5),
        augment=augment,
        ema=EmaConfig(posthoc=(0.05, 0.1)),
        **fields,
    )


def test_the_families_hold_every_system():
    configs = [recipe("debug"), FROZEN, SMALL, RESIDUAL, *map(recipe, FAMILIES)]
    assert {config.generator.kind for config in configs} | {"quantized"} == set(GENERATORS)
    assert {config.discriminator.kind for config in configs} == set(DISCRIMINATORS)
    # The text tower of `small` waits for the GPU inside transformers, so captions must be cached.
    small = [config for config in map(recipe, RECIPES) if config.text_encoder == "small"]
    assert small and all(config.text_cache for config in small)


@pytest.mark.slow
@pytest.mark.parametrize(
    "config", [*map(recipe, FAMILIES), FROZEN, SMALL, RESIDUAL], ids=lambda config: config.recipe
)
def test_a_step_of_every_family_waits_for_nothing(config):
    with fake_gpu() as gpu:
        step(trainer_of(replace(config, precision="bf16")), gpu)


@pytest.mark.slow
def test_a_step_with_every_term_waits_for_nothing(tmp_path):
    """The terms are R1, path length, MA-GP, mismatch, ConD and ConG.

    Style mixing, text noise, ADA, cached text and power averages are on as well.
    """
    cached = CachedTextEncoder.build(HashedEncoder(), CAPTIONS, tmp_path)
    cached.device = CUDA
    with fake_gpu() as gpu:
        trainer = trainer_of(everything(precision="bf16"), cached)
        step(trainer, gpu)
        mean = trainer.loss.path_length_mean
        assert mean.device == CUDA and mean.dtype == torch.float32


@pytest.mark.parametrize("kind", ["eidgan", "inrgan"])  # all patches at once, and one by one
def test_a_step_on_patches_waits_for_nothing(kind):
    config = replace(
        recipe("debug"),
        patches=PatchConfig(side=32),
        generator=preset(f"{kind}-tiny"),
        loss=LossConfig(r1_gamma=0.0),
    )
    boxes = torch.tensor([[0.0, 0.0, 1.0], [0.1, 0.3, 0.4]] * 2, dtype=torch.float64)
    with fake_gpu() as gpu:
        trainer = trainer_of(config)
        images = torch.zeros(4, 3, 32, 32, dtype=torch.uint8).pin_memory()
        with gpu.rules():
            parts = trainer._split(images, CAPTIONS, boxes)
            trainer._play(trainer.player_g, parts, trainer.loss.generator_loss)


class Graphs:
    """`training.step_graph.Capture` by the rules of a CUDA graph; a replay does nothing."""

    def __init__(self, gpu):
        self.gpu, self.captures = gpu, 0

    def stream(self):
        return contextlib.nullcontext()

    def capture(self, work):
        self.captures += 1
        with self.gpu.captured():
            return work(), lambda: None


@pytest.mark.slow
@pytest.mark.parametrize("shown", ["whole", "patches", "patches and a teacher"])
def test_a_captured_step_copies_nothing_from_the_cpu(shown, tmp_path):
    config = replace(FROZEN, precision="bf16", init_from=str(tmp_path / "network-snapshot-000000"))
    size = (256, 384)  # of the text encoder
    generator = config.for_encoder(*size).build_generator()
    Snapshot(generator, "small", 32).save_pretrained(tmp_path / "network-snapshot-000000")
    boxes = None
    if shown != "whole":
        boxes = torch.tensor([[0.0, 0.0, 1.0], [0.1, 0.3, 0.4]] * 2, dtype=torch.float64)
        config = replace(
            config, patches=PatchConfig(side=32), generator=replace(config.generator, samples=2)
        )
    if shown.endswith("teacher"):
        config = replace(config, loss=replace(config.loss, imle=0.0, teacher=30.0))
    with fake_gpu() as gpu:
        trainer = trainer_of(config)
        graphs = Graphs(gpu)
        trainer.graphs = StepGraphs(graphs)
        images = torch.zeros(4, 3, 32, 32, dtype=torch.uint8).pin_memory()
        with gpu.rules():
            for _ in range(3):
                trainer.step(images, CAPTIONS, boxes)
    assert graphs.captures == 2  # the phases of D and G


@pytest.mark.slow
def test_plain_operators_wait_for_nothing():
    """The generator's loss and its gradient in float32, if the kernels cannot be built."""
    with fake_gpu(kernels=False) as gpu:
        trainer = trainer_of(recipe("debug"))
        images = torch.zeros(4, 3, 32, 32, dtype=torch.uint8).pin_memory()
        with gpu.rules():
            parts = trainer._split(images, CAPTIONS)
            trainer._play(trainer.player_g, parts, trainer.loss.generator_loss)


def test_code_books_move_without_waiting():
    """A mask selects the vectors that count."""
    with fake_gpu() as gpu:
        config = VectorQuantizerConfig(num_codes=16, code_dim=4, slots=2)
        quantizer = FeatureQuantizer(8, config).to(CUDA)
        x, mask = torch.zeros(4, 5, 8, device=CUDA), torch.ones(4, 5, dtype=torch.bool, device=CUDA)
        with gpu.rules(), torch.autocast("cuda", torch.bfloat16):
            quantizer(x, mask).commitment.sum().backward()
        with gpu.rules():
            stats = quantizer.quantizer.end_step()
        assert quantizer.quantizer._steps == 1
        assert all(x.device == CUDA and x.dtype == torch.float32 for x in stats.values())


class TwoRanks:
    """Stands in for torch.distributed with two ranks, but sends nothing.

    As with NCCL and gloo, tensors are on the device, or on the CPU for the gloo group.
    """

    group = "gloo"

    def __init__(self):
        self.calls = []
        self.is_initialized, self.get_rank, self.get_world_size = lambda: True, lambda: 1, lambda: 2

    def all_reduce(self, tensor, group=None):
        self.calls.append("all_reduce")
        assert tensor.device.type == ("cpu" if group == self.group else "cuda")

    def broadcast(self, tensor, src):
        self.calls.append("broadcast")
        assert tensor.device == CUDA

    def all_gather(self, parts, tensor):
        self.calls.append("all_gather")
        assert tensor.device == CUDA and all(part.device == CUDA for part in parts)


@pytest.mark.slow
def test_two_ranks_wait_for_each_other_but_not_for_the_device(monkeypatch):
    ranks = TwoRanks()
    monkeypatch.setattr(distributed, "dist", ranks)
    monkeypatch.setattr(distributed._Hosts, "group", ranks.group)
    with fake_gpu() as gpu:
        trainer = trainer_of(replace(SMALL, loss=LossConfig(r1_gamma=0.0, cond=1.0)))
        images = torch.zeros(2, 3, 32, 32, dtype=torch.uint8).pin_memory()
        with gpu.rules():
            trainer.step(images, CAPTIONS[:2])
            assert distributed.sum_of_numbers([True, False]) == [1, 0]
    assert set(ranks.calls) == {"all_reduce", "broadcast", "all_gather"}


# The calls that may wait, because they are made once a tick or more rarely, and their reasons.
TICK = {
    "the log has the means of a tick": lambda trainer: trainer.collector.flush(),
    "the nan policy acts before anything is saved": lambda trainer: trainer.check_finite(),
    "the log line has p": lambda trainer: float(trainer.augment.p),
    "a checkpoint holds the number of skipped steps": lambda trainer: trainer.player_g.state_dict(),
    "a checkpoint holds p and the signs": lambda trainer: trainer.augment.state_dict(),
    "a checkpoint holds the mean path length": lambda trainer: trainer.loss.state_dict(),
}


@pytest.mark.slow
def test_only_the_tick_waits():
    with fake_gpu() as gpu:
        trainer = trainer_of(SMALL)
        step(trainer, gpu)
        for player in (trainer.player_d, trainer.player_g):
            player.num_skipped = 1  # the simulated GPU reads every number as 1
        for call in TICK.values():
            with pytest.raises(DeviceFault, match="waits"), gpu.rules():
                call(trainer)
            call(trainer)


@pytest.mark.parametrize("mode", ["fixed", "ada"])
def test_augmentation_and_its_gradient_wait_for_nothing(mode):
    with fake_gpu() as gpu:
        augment = Augmentation(AugmentConfig(mode=mode, p=0.5, rotation=0.1, interval=1), CUDA)
        images = torch.zeros(4, 3, 16, 16, device=CUDA, requires_grad=True)
        with gpu.rules(), torch.autocast("cuda", torch.bfloat16):
            shown = augment(images, lambda width: to_device(torch.rand(4, NUM_UNIFORMS), CUDA))
            shown.square().sum().backward()
            augment.observe(torch.zeros(4, device=CUDA))
            augment.adapt(4, 4)
        assert shown.dtype == images.grad.dtype == torch.float32 and augment.p.device == CUDA
