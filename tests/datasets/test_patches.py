"""Patches of pictures: their draws, how they are cut, and what the loader makes of them."""

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from datasets.archive import Picture, write_archive
from datasets.importing import resize
from datasets.loader import training_batches
from datasets.patches import FRAME, PatchConfig, cut, mirrored
from datasets.text_image import TextImageDataset
from dnnlib.errors import UserError

SIZES = [(48, 32), (20, 60), (40, 40), (17, 16), (64, 24)]
PATCHES = PatchConfig(side=16, scale=(1.0, 3.0), full=0.25)


def smooth(width, height):
    """A picture of slow waves, uint8 [3, H, W], a function of frame units."""
    short = min(width, height)
    x, y = (0.5 + (torch.arange(count) + 0.5 - count / 2) / short for count in (width, height))
    waves = [torch.sin(3 * x + channel)[None] * torch.cos(2 * y)[:, None] for channel in range(3)]
    return (torch.stack(waves) * 100 + 128).round().to(torch.uint8)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """Five pictures of five shapes."""
    path = tmp_path_factory.mktemp("native") / "shapes.zip"
    items = [
        Picture(smooth(*size).permute(1, 2, 0).numpy(), str(size), (f"{size}",), "train")
        for size in SIZES
    ]
    write_archive(path, items, None, {})
    return TextImageDataset(path)


def draws(config, size, count=4000, seed=0):
    return np.array([config.draw(size, seed, position) for position in range(count)])


def test_scales_are_log_uniform_places_uniform_and_a_share_is_the_whole_frame():
    boxes = draws(PATCHES, (96, 64))  # the short side allows scales up to 4
    whole = (boxes == FRAME).all(axis=1)
    assert abs(whole.mean() - 0.25) < 4 * math.sqrt(0.25 * 0.75 / len(boxes))
    x, y, extent = boxes[~whole].T
    octaves = -np.log(extent) / math.log(3)
    assert 0 <= octaves.min() and octaves.max() <= 1
    # A frame of 3:2 reaches from -0.25 to 1.25; places are shares of the room that is left.
    for share in (octaves, (x + 0.25) / (1.5 - extent), y / (1 - extent)):
        assert share.min() > -1e-9 and share.max() < 1 + 1e-9
        quarters = np.histogram(share, bins=4, range=(0, 1))[0] / len(share)
        assert np.abs(quarters - 0.25).max() < 4 * math.sqrt(0.25 * 0.75 / len(share))


def test_draws_depend_on_seed_and_position_alone():
    assert PATCHES.draw((96, 64), 3, 8) == PATCHES.draw((96, 64), 3, 8)
    boxes = {PATCHES.draw((96, 64), seed, position) for seed in (3, 4) for position in range(40)}
    assert len(boxes) > 50  # all but the whole frames differ
    # A picture of another size moves the box and never changes whether it is the whole frame.
    whole = [[PATCHES.draw(size, 0, i) == FRAME for i in range(50)] for size in SIZES]
    assert all(part == whole[0] for part in whole)


@pytest.mark.parametrize("size", SIZES)
def test_a_picture_is_never_enlarged(size):
    short = min(size)
    boxes = draws(PatchConfig(side=16, scale=(2.0, 8.0), full=0.0), size, 200)
    pixels = boxes[:, 2] * short
    assert pixels.min() > 16 - 1e-9
    assert (boxes[:, 2] <= max(0.5, 16 / short) + 1e-12).all()


@pytest.mark.parametrize("size", [(48, 32), (20, 60), (33, 33)])
def test_the_whole_frame_is_the_picture_of_a_center_crop(size):
    image = torch.from_numpy(
        np.random.default_rng(0).integers(0, 256, (3, size[1], size[0]), dtype=np.uint8)
    )
    picture = Image.fromarray(image.permute(1, 2, 0).numpy())
    expected = np.asarray(resize(picture, (16, 16), "center-crop"))
    assert np.array_equal(cut(image, FRAME, 16).permute(1, 2, 0).numpy(), expected)


def test_a_patch_is_a_crop_of_the_whole_picture_after_resizing():
    """At scale 2 the 96 x 64 picture is shrunk to 48 x 32; a patch has 16 x 16 pixels of it."""
    image = torch.from_numpy(np.random.default_rng(1).integers(0, 256, (3, 64, 96), dtype=np.uint8))
    picture = Image.fromarray(image.permute(1, 2, 0).numpy())
    whole = np.asarray(picture.resize((48, 32), Image.Resampling.LANCZOS)).astype(int)
    for left, top in ((0, 0), (32, 16), (9, 5)):
        box = ((left - 8) / 32, top / 32, 0.5)
        patch = cut(image, box, 16).permute(1, 2, 0).numpy()
        assert np.abs(whole[top : top + 16, left : left + 16] - patch).max() <= 1


def test_hamming_adds_no_halo_to_an_edge():
    """Pixels of an edge between 100 and 200 stay between them; Lanczos goes beyond."""
    edge = torch.full((3, 64, 64), 100, dtype=torch.uint8)
    edge[:, :, 30:] = 200
    for box in (FRAME, (0.25, 0.25, 0.5), (0.2, 0.3, 0.43)):
        lanczos, hamming = cut(edge, box, 16), cut(edge, box, 16, "hamming")
        assert int(lanczos.min()) < 100 and int(lanczos.max()) > 200
        assert (int(hamming.min()), int(hamming.max())) == (100, 200)


@pytest.mark.parametrize("size", SIZES)
def test_a_patch_of_a_smooth_function_is_the_function_at_its_coordinates(size):
    for box in draws(PatchConfig(side=16, scale=(1.0, 3.0), full=0.2), size, 20).tolist():
        x, y = (start + box[2] * (torch.arange(16) + 0.5) / 16 for start in box[:2])
        expected = torch.sin(3 * x)[None] * torch.cos(2 * y)[:, None] * 100 + 128
        patch = cut(smooth(*size), tuple(box), 16)[0]
        # Filters repeat the border, where the function goes on: leave out the outer pixels.
        assert (patch - expected)[2:-2, 2:-2].abs().max() < 2.5


def test_a_mirrored_box_shows_the_same_content():
    box = (0.1, 0.2, 0.5)
    image = smooth(40, 32)
    assert mirrored(mirrored(box)) == pytest.approx(box)
    left, right = cut(image, box, 16), cut(image.flip(-1), mirrored(box), 16).flip(-1)
    assert (left.int() - right.int()).abs().max() <= 1


def batches(dataset, **options):
    options = {"global_batch": 4, "seed": 1, "mirror": True, "patches": PATCHES} | options
    return training_batches(dataset, **options)


def assert_same(a, b):
    assert torch.equal(a.images, b.images) and torch.equal(a.boxes, b.boxes)
    assert a.captions == b.captions and torch.equal(a.indices, b.indices)


def test_batches_are_resized_by_the_filter_of_the_patches(dataset):
    hamming = next(batches(dataset, patches=replace(PATCHES, filter="hamming")))
    lanczos = next(batches(dataset))
    assert torch.equal(hamming.boxes, lanczos.boxes)
    assert not torch.equal(hamming.images, lanczos.images)


def test_batches_of_mixed_sizes_resume_and_split_exactly(dataset):
    whole = list(itertools.islice(batches(dataset), 6))
    for batch in whole:
        assert batch.images.shape == (4, 3, 16, 16) and batch.boxes.shape == (4, 3)
        assert batch.boxes.dtype == torch.float64
    assert len({tuple(box) for batch in whole for box in batch.boxes.tolist()}) > 10
    for resumed, batch in zip(batches(dataset, start_images=12), whole[3:], strict=False):
        assert_same(resumed, batch)
    halves = [next(batches(dataset, rank=rank, world_size=2)) for rank in (0, 1)]
    assert torch.equal(whole[0].images, torch.cat([half.images for half in halves]))
    assert torch.equal(whole[0].boxes, torch.cat([half.boxes for half in halves]))


def test_a_flipped_patch_lies_where_its_box_says(dataset):
    """The box names the place in the flipped picture, which is what the patch shows."""
    plain = list(itertools.islice(batches(dataset, mirror=False), 8))
    flipped = list(itertools.islice(batches(dataset), 8))
    changed = 0
    for a, b in zip(plain, flipped, strict=True):
        assert torch.equal(a.boxes, b.boxes)
        for image, box, index in zip(b.images, b.boxes.tolist(), b.indices.tolist(), strict=True):
            straight = cut(dataset[index].image, tuple(box), 16).int()
            mirror = cut(dataset[index].image.flip(-1), tuple(box), 16).int()
            to_straight, to_mirror = ((image.int() - x).abs().max() for x in (straight, mirror))
            assert min(to_straight, to_mirror) <= 1
            changed += int(to_straight > 1)
    assert 4 < changed < 28


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"scale": (4.0, 1.0)}, "patches.scale: needs 1 <= least <= largest, got 4 and 1"),
        ({"scale": (0.5, 2.0)}, "patches.scale: needs 1 <= least"),
        ({"full": 1.5}, "patches.full: is a probability, got 1.5"),
        ({"side": -1}, "patches.side: must not be negative"),
    ],
)
def test_configs_out_of_range_are_refused(fields, message):
    with pytest.raises(UserError, match=message):
        PatchConfig(**fields)
