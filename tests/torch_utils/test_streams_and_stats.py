from __future__ import annotations

import torch

from dnnlib.ownership import never
from torch_utils.pictures import grid, save_png
from torch_utils.rng import generator_for, normal_per_seed, seed_for
from torch_utils.tensors import from_uint8, to_uint8
from torch_utils.training_stats import Collector


def test_seeds_are_fixed_for_ever_and_distinguish_their_parts():
    assert seed_for(0, "z", 5) == 3023306434187574093
    names = (0, "z", 5), (0, "z", 50), (0, "z5"), ("0", "z", 5), (0, "z", 5, 0)
    assert len({seed_for(*name) for name in names}) == 5


def test_rows_depend_on_their_own_seed_only():
    batch = normal_per_seed([3, 8, 3], (2, 4))
    assert torch.equal(batch[0], batch[2])
    assert torch.equal(batch[1], normal_per_seed([8], (2, 4))[0])
    assert not torch.equal(batch[0], batch[1])


def test_streams_leave_the_global_state_alone():
    before = torch.get_rng_state()
    torch.randn(3, generator=generator_for(1, "x"))
    normal_per_seed([1, 2], (3,))
    assert torch.equal(torch.get_rng_state(), before)


def test_uint8_round_trip_is_exact_and_clamped():
    values = torch.arange(256, dtype=torch.uint8).view(1, 16, 16).expand(3, -1, -1)
    assert torch.equal(to_uint8(from_uint8(values)), values)
    assert to_uint8(torch.tensor([-3.0, 3.0])).tolist() == [0, 255]


def test_collector_means_over_elements_and_starts_anew():
    collector = Collector()
    collector.report("a", torch.tensor([1.0, 2.0]))
    collector.report("a", torch.tensor(6.0))
    assert collector.flush() == {"a": 3.0}
    assert collector.flush() == {}


def test_collector_leaves_out_elements_that_are_not_finite():
    collector = Collector()
    for value in (1.0, float("nan"), 3.0, float("inf")):
        collector.report("a", torch.tensor([value, 5.0]), finite_only=True)
        collector.report("b", torch.tensor(float("nan")), finite_only=True)
    assert collector.flush() == {"a": 4.0}


def test_grid_places_row_by_row_and_png_keeps_text(tmp_path):
    from PIL import Image
    from PIL.PngImagePlugin import PngImageFile

    images = [torch.full((3, 2, 4), i, dtype=torch.uint8) for i in range(5)]
    sheet = grid(images, 3)
    assert sheet.shape == (3, 4, 12)
    assert grid(images).equal(sheet) and grid(images[:2], 3).shape == (3, 2, 12)
    assert torch.equal(grid([torch.arange(24).view(3, 2, 4)], 1), torch.arange(24).view(3, 2, 4))
    assert sheet[0, 0].tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert sheet[0, 3].tolist() == [3] * 4 + [4] * 4 + [255] * 4
    save_png(tmp_path / "x.png", sheet, {"prompt": "a red äpple"}, ours=never)
    with Image.open(tmp_path / "x.png") as picture:
        assert isinstance(picture, PngImageFile)
        assert picture.text["prompt"] == "a red äpple" and picture.size == (12, 4)
