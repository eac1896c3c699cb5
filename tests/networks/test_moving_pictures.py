"""Frames of videos: a place keeps its colour, walks pass their ends, loops close."""

import math

import pytest
import torch

from dnnlib.errors import UserError
from networks.coordinates import View
from networks.generators import preset
from networks.moving_pictures import KINDS, Motion, frames, latent_walk, prompt_walk, slerp
from networks.sampling import draw_codes, render_tiled
from networks.text_encoders import load_encoder
from torch_utils.tensors import to_uint8

SYSTEMS = ("eidgan-tiny", "creps-tiny", "cips-tiny", "inrgan-tiny")
VIEW = View(height=33, width=33)
N = 20


def drawn(name="eidgan-tiny", prompts=("a red apple",), seeds=(3,)):
    torch.manual_seed(0)
    generator = preset(name).build().eval().requires_grad_(False)
    return generator, draw_codes(generator, load_encoder("hashed"), prompts, seeds)


@pytest.mark.parametrize("name", SYSTEMS)
def test_a_place_has_one_colour_in_a_zoom_through_five_octaves(name):
    """What a pixel shows depends on its place and footprint alone: every frame equals, pixel by
    pixel, a view of that pixel, and the centre is the same in all frames.
    """
    generator, codes = drawn(name)
    motion = Motion(kind="zoom", num_frames=N, center=(0.5, 0.5))
    with torch.no_grad():
        centre = None
        for number in range(0, N, 3):
            view = motion.view(VIEW, number)
            image = render_tiled(generator, codes, view)[0]
            middle = image[:, 16, 16]
            centre = middle if centre is None else centre
            assert (middle - centre).abs().max() < 1e-5, number
            x0, y0, x1, y1 = view.box
            wide, high = (x1 - x0) / 33, (y1 - y0) / 33
            for row, column in ((0, 0), (5, 31), (32, 7)):
                box = (
                    x0 + wide * column,
                    y0 + high * row,
                    x0 + wide * (column + 1),
                    y0 + high * (row + 1),
                )
                alone = render_tiled(generator, codes, View(height=1, width=1, box=box))[0, :, 0, 0]
                assert (image[:, row, column] - alone).abs().max() < 2e-5, (number, row, column)


def test_two_frames_of_a_zoom_agree_where_they_show_the_same_places():
    """A frame enlarged three times samples every place of the first frame's middle third."""
    generator, codes = drawn()
    motion = Motion(kind="zoom", num_frames=2, octaves=math.log2(3))
    views = [motion.view(VIEW, number) for number in (0, 1)]
    with torch.no_grad():
        first, second = (render_tiled(generator, codes, view)[0] for view in views)
    assert (first[:, 11:22, 11:22] - second[:, 1::3, 1::3]).abs().max() < 1e-5
    assert first.std() > 0.01


def test_a_zoom_goes_in_by_its_octaves_and_comes_back():
    motion = Motion(kind="zoom", num_frames=N, center=(0.25, 1.0))
    views = [motion.view(View(height=4, width=4, box=(0, -1, 2, 1)), i) for i in range(N)]
    widths = [view.box[2] - view.box[0] for view in views]
    assert widths[0] == 2 and widths[N // 2] == pytest.approx(2 / 32)
    assert widths[1:] == pytest.approx(widths[:0:-1])  # the loop closes
    assert all(view.box[0] <= 0.25 <= view.box[2] and view.box[1] <= 1 for view in views)
    ratios = [a / b for a, b in zip(widths, widths[1:], strict=False)]
    assert max(ratios) < 2 ** (5 * math.pi / N)  # no jump: the largest speed of a cosine
    back = Motion(kind="zoom", num_frames=N, octaves=-2)
    assert back.view(VIEW, N // 2).box == pytest.approx((-1.5, -1.5, 2.5, 2.5))


def test_a_pan_begins_and_ends_where_it_is_told():
    motion = Motion(kind="pan", num_frames=N, shift=(2.0, -0.5))
    assert motion.view(VIEW, 0).box == (0, 0, 1, 1)
    assert motion.view(VIEW, N - 1).box == pytest.approx((2, -0.5, 3, 0.5))


@pytest.mark.parametrize(
    "kind, more",
    [("zoom", {"octaves": 20}), ("pan", {"shift": (1e30, 0)})],
)
def test_coordinates_that_fall_together_are_refused(kind, more):
    motion = Motion(kind=kind, num_frames=N, **more)
    with pytest.raises(UserError, match="cannot tell apart; use a smaller --octaves"):
        for number in range(N):
            motion.view(VIEW, number)


def test_octaves_are_a_number_of_some_size():
    for octaves in (math.nan, math.inf, 21):
        with pytest.raises(UserError, match="--octaves .*expected a number from -20 to 20"):
            Motion(kind="zoom", num_frames=N, octaves=octaves)


def test_spherical_interpolation_keeps_length_and_speed():
    a, b = torch.tensor([[2.0, 0.0]]), torch.tensor([[0.0, 2.0]])
    for t in (0.0, 0.25, 0.5, 1.0):
        angle = t * math.pi / 2
        expected = torch.tensor([[2 * math.cos(angle), 2 * math.sin(angle)]])
        assert (slerp(a, b, t) - expected).abs().max() < 1e-6
    assert torch.equal(slerp(a, a, 0.3), a)
    assert torch.equal(slerp(a, -a, 0.75), torch.lerp(a, -a, 0.75))


@pytest.mark.parametrize("truncation, noise", [(1.0, None), (0.6, 0.5)])
def test_a_latent_walk_passes_its_seeds_and_returns(truncation, noise):
    seeds, encoder = [5, 6, 7, 8], load_encoder("hashed")
    generator, _ = drawn()
    codes = latent_walk(generator, encoder, "a cat", seeds, N, truncation, text_noise=noise)
    ends = draw_codes(generator, encoder, ["a cat"] * 4, seeds, truncation, text_noise=noise)
    for number in range(4):
        found = codes(number * N // 4)
        assert (found.tokens - ends.tokens[number : number + 1]).abs().max() < 1e-5
        assert (found.sentence - ends.sentence[number : number + 1]).abs().max() < 1e-5
    walk = [codes(number).tokens for number in range(N)]
    steps = [float((a - b).norm()) for a, b in zip(walk, [*walk[1:], walk[0]], strict=True)]
    assert max(steps) < 4 * min(steps)  # also from the last frame to the first
    with pytest.raises(UserError, match="at least two seeds"):
        latent_walk(generator, encoder, "a cat", [5], N)


def test_a_prompt_walk_begins_with_one_prompt_and_ends_with_the_other():
    encoder = load_encoder("hashed")
    generator, ends = drawn(prompts=("a red apple", "a cat on a mat"), seeds=(3, 3))
    codes = prompt_walk(generator, encoder, ("a red apple", "a cat on a mat"), 3, N)
    for number, index in ((0, 0), (N - 1, 1)):
        assert torch.equal(codes(number).tokens[0], ends.tokens[index])
        assert torch.equal(codes(number).sentence[0], ends.sentence[index])
    steps = [(codes(i + 1).tokens - codes(i).tokens).norm() for i in range(N - 1)]
    assert max(steps) == pytest.approx(float(min(steps)), rel=1e-3) and min(steps) > 0


@pytest.mark.parametrize("kind", KINDS)
def test_frames_are_drawn_when_they_are_asked_for(kind):
    generator, codes = drawn()
    asked = []

    def codes_of(number):
        asked.append(number)
        return codes

    motion = Motion(kind=kind, num_frames=N)
    stream = frames(generator, codes_of, VIEW, motion)
    for number in range(3):
        image = next(stream)
        assert asked == list(range(number + 1))
        assert image.dtype == torch.uint8 and image.shape == (3, 33, 33)
        with torch.no_grad():
            expected = render_tiled(generator, codes, motion.view(VIEW, number))[0]
        assert torch.equal(image, to_uint8(expected))
    codes.tokens.fill_(float("nan"))
    with pytest.raises(UserError, match="frame 3 is not finite"):
        next(stream)


def test_a_turn_is_a_whole_one_about_its_centre():
    generator, codes = drawn()
    motion = Motion(kind="rotate", num_frames=4)
    with torch.no_grad():
        images = [render_tiled(generator, codes, motion.view(VIEW, i))[0] for i in range(4)]
    for number, image in enumerate(images):
        turned = torch.rot90(images[0], number, (1, 2))  # counter-clockwise
        assert (image - turned).abs().max() < 2e-2, number  # lines of a warped view: interpolated
    assert (images[1] - images[0]).abs().max() > 0.1
