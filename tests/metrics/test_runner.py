"""evaluate(): numbers that do not depend on batches, shared work, records that say everything, no
trace in any RNG.
"""

import json
import math
import random
from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from dnnlib.errors import UserError
from metrics.evaluations import EVALUATIONS, evaluations_named
from metrics.measures.base import Evaluation
from metrics.measures.clip import clip_score
from metrics.measures.cmmd import Cmmd
from metrics.measures.frechet import Frechet
from metrics.measures.kid import Kid
from metrics.measures.manifold import DensityCoverage, PrecisionRecall
from metrics.pictures.generator_subject import GeneratorSubject
from metrics.pictures.reading import Compute
from metrics.pictures.sources import Sources
from metrics.pictures.specifications import Pictures
from metrics.runner import evaluate, load_subject
from metrics.session import Session
from networks.coordinates import View
from networks.generators import preset
from networks.interfaces import Codes, Generator, ViewError
from networks.snapshot import Snapshot
from torch_utils.tensors import from_uint8, to_uint8

TOY = Evaluation(name="kid_toy", summary="golden numbers", measure=Kid(detector="toy"))
EMBEDDED = (
    "clip_s_small",
    "clip_s_small_heldout",
    "clip_r_small",
    "scale_x2",
    "scale_x4",
    "tile_exact",
)
ALL = [TOY, *evaluations_named(EMBEDDED)]


def run(subject, archive, evaluations, encoders, **options):
    options = {"num": 20} | options
    return {
        r["metric"]: r
        for r in evaluate(subject, archive, evaluations, encoders=encoders, **options)
    }


def write_greys(folder, count):
    folder.mkdir()
    for index in range(count):
        Image.new("RGB", (16, 16), (90 * index,) * 3).save(folder / f"{index}.png")
    return folder


class Formula(Generator):
    """The picture is a function of x; no latent, no text."""

    latent_shape = (1, 1)
    config = SimpleNamespace(text_noise=0.0)

    def __init__(self, function):
        super().__init__(token_shape=(1, 1))
        self.function = function

    def mapping(self, z, text):
        return Codes(z, z[:, 0, :0])

    def prepare(self, codes, view):
        return len(codes), view

    def render(self, prepared, rows, columns):
        count, view = prepared
        x = view.columns()[columns].expand(count, 3, rows.stop - rows.start, -1)
        return self.function(x, rows)


def with_generator(subject, function):
    return GeneratorSubject(Formula(function), subject.encoder, "small", subject.resolution)


def test_batch_size_changes_nothing(subject, archive, encoders):
    first, *others = (run(subject, archive, ALL, encoders, batch_size=size) for size in (1, 7, 64))
    for other in others:
        for name, record in first.items():
            assert other[name]["value"] == pytest.approx(record["value"], rel=1e-5, abs=1e-7), name
    assert len({record["value"] for record in first.values()}) == len(first)


def test_same_seed_same_number_other_seed_other_number(subject, archive, encoders):
    a, b, c = (
        run(subject, archive, [TOY], encoders, seed=seed)["kid_toy"]["value"] for seed in (0, 0, 1)
    )
    assert a == b != c


def test_golden_toy_number(subject, archive, encoders):
    # Pins the whole path: seeds, captions, order of items, uint8 rounding, toy weights, kernel. A
    # change of this number is a change of every evaluation: raise PROTOCOLS_VERSION with it.
    assert run(subject, archive, [TOY], encoders)["kid_toy"]["value"] == pytest.approx(
        0.1013343, rel=1e-4
    )


@pytest.mark.parametrize(
    "measure, golden",
    [
        (Frechet(detector="toy"), {"value": 0.7540101}),
        (
            Kid(detector="toy", num_subsets=4, subset_size=6),
            {"value": -0.0004599118, "spread": 0.002452032},
        ),
        (Cmmd(detector="toy", sigma=1.0), {"value": 12.01001}),
        (PrecisionRecall(detector="toy"), {"value": 17 / 20, "recall": 10 / 12}),
        (DensityCoverage(detector="toy"), {"value": 0.9, "coverage": 1}),
    ],
    ids=lambda part: getattr(part, "kind", ""),
)
def test_golden_numbers_of_other_measures(subject, archive, encoders, measure, golden):
    row = Evaluation(name=f"{measure.kind}_toy", summary="golden numbers", measure=measure)
    noise = with_generator(
        subject,
        lambda x, rows: torch.rand(x.shape, generator=torch.Generator().manual_seed(3)) * 1.9 - 0.9,
    )
    record = run(noise, archive, [row], encoders)[row.name]
    assert {key: record[key] for key in golden} == pytest.approx(golden, rel=1e-4)


def test_pictures_are_generated_once_for_all_detectors(subject, archive, encoders):
    run(subject, archive, evaluations_named(["clip_s_small"]) + [TOY], encoders)
    assert subject.generator.num_rendered == 20
    run(
        subject,
        archive,
        evaluations_named(["clip_s_small", "clip_s_small_heldout", "clip_r_small"]),
        encoders,
    )
    assert subject.generator.num_rendered == 40


def test_clip_score_is_that_of_the_pictures_and_prompts(subject, archive, encoders):
    row = EVALUATIONS["clip_s_small_heldout"].with_overrides(num=20)
    record = run(subject, archive, [row], encoders)[row.name]
    session = Session(
        subject, Sources(data=archive), Compute(torch.device("cpu"), 4), encoders=encoders
    )
    chosen = session.image_set(row.pictures)
    view = View.square(subject.resolution)
    images = torch.stack(list(session.render(row.pictures, range(20), view)))
    scorer = encoders["small-heldout"]
    expected = clip_score(
        scorer.encode_image(from_uint8(to_uint8(images))).numpy(),
        scorer.encode_text(chosen.prompts).sentence.numpy(),
    )
    assert record["value"] == pytest.approx(expected, rel=1e-5)
    assert record["shuffled"] != pytest.approx(expected, rel=1e-2)


def test_the_teacher_is_named(subject, archive, encoders):
    records = run(subject, archive, ALL, encoders)
    assert {name for name, record in records.items() if record["teacher"]} == {
        "clip_s_small",
        "clip_r_small",
    }


@pytest.mark.parametrize("kind", ["folder", "npz"])
def test_items_are_those_of_data_whatever_the_reference_is(
    subject, archive, encoders, tmp_path, kind
):
    reference = tmp_path / "reference.npz"
    if kind == "npz":
        np.savez(reference, mu=np.zeros(2))
    else:
        write_greys(reference, 1)
    rows = evaluations_named(["clip_r_small"])
    plain = run(subject, archive, rows, encoders)["clip_r_small"]
    both = Sources(data=archive, reference=reference)
    scored = run(subject, both, rows, encoders)["clip_r_small"]
    assert plain["real"] is not None
    assert [scored[name] for name in ("real", "prime")] == [plain["real"], plain["prime"]]


@pytest.mark.parametrize("kind", ["none", "data set", "folder"])
def test_data_is_checked_where_the_real_pictures_are_known(
    subject, archive, encoders, tmp_path, kind
):
    row = replace(TOY, data="numpy")  # the source of `archive` is "numpy"
    folder = write_greys(tmp_path / "reference", 2)
    reference = {"none": None, "data set": archive, "folder": folder}[kind]
    record = run(subject, Sources(data=archive, reference=reference), [row], encoders)["kid_toy"]
    assert record["data_checked"] is (kind != "folder")


def test_each_generated_window_lies_elsewhere(subject, archive, encoders):
    seen = []
    generator = subject.generator
    prepare = generator.prepare

    def watched(codes, view):
        seen.append(view.box)
        return prepare(codes, view)

    generator.prepare = watched
    pictures = Pictures(sight="patch", num_images=20)
    session = Session(subject, Sources(data=archive), Compute(torch.device("cpu"), 8))
    choose = partial(session.image_set, pictures)
    frames = subject.frames(pictures, choose, range(20), session.compute, large=64)
    assert len(list(frames)) == 20 == len(set(seen))


def test_records_say_what_was_measured_and_are_json(subject, archive, encoders):
    records = run(subject, archive, ALL, encoders)
    for name, record in records.items():
        assert json.loads(json.dumps(record, allow_nan=False)) == record
        assert record["protocol"]["name"] == name and record["split"] == "test"
        assert (
            record["dataset"]["num_items"] == 12
            and record["versions"]["torch"] == torch.__version__
        )
    kid, precision = records["kid_toy"], records["clip_r_small"]
    assert (
        kid["num_generated"] == 20
        and kid["num_real"] == 12
        and len(kid["detector"]["weights_sha256"]) == 64
    )
    assert records["clip_s_small"]["overrides"] == {"num_images": 20}
    assert records["tile_exact"]["num_generated"] == 4 and records["tile_exact"]["overrides"] == {}
    assert precision["num_distractors"] == 11 and precision["chance"] == pytest.approx(1 / 12)
    if precision["real"]:
        assert precision["prime"] == pytest.approx(precision["value"] / precision["real"])


def test_no_random_state_is_touched(subject, archive, encoders):
    torch.manual_seed(5), np.random.seed(5), random.seed(5)
    before = torch.get_rng_state(), str(np.random.get_state()), random.getstate()
    # lite2 is built by timm, which initialises weights from the global stream.
    records = evaluate(subject, archive, [TOY, EVALUATIONS["kid_lite2"]], num=4, encoders=encoders)
    for record in records:
        assert math.isfinite(record["value"])
        after = torch.get_rng_state(), str(np.random.get_state()), random.getstate()
        assert torch.equal(before[0], after[0]) and before[1:] == after[1:]


def test_training_mode_is_given_back(subject, archive, encoders):
    subject.generator.train()
    run(subject, archive, [TOY], encoders, num=2)
    assert subject.generator.training


@pytest.mark.parametrize("factor", [2, 4, 8])
def test_scale_consistency_of_a_ramp_in_closed_form(subject, archive, encoders, factor):
    ramp, name = with_generator(subject, lambda x, rows: 2 * x - 1), f"scale_x{factor}"
    record = run(ramp, archive, [EVALUATIONS[name]], encoders, num=2)[name]
    s = subject.resolution
    errors = [i / (s - 1) - (factor * i + (factor - 1) / 2) / (factor * s - 1) for i in range(s)]
    assert record["psnr"]["endpoints"] == pytest.approx(
        -10 * math.log10(np.mean(np.square(errors))), abs=1e-3
    )
    assert record["value"] == record["psnr"]["centers"] == 100
    assert record["ssim"]["centers"] == pytest.approx(1) and record["ssim"]["endpoints"] < 1
    assert set(record["psnr"]) == set(record["ssim"]) == {"centers", "endpoints", "bicubic"}


def test_lpips_is_there_where_its_weights_are(subject, archive, encoders, monkeypatch):
    record = run(subject, archive, [EVALUATIONS["scale_x2"]], encoders, num=2)["scale_x2"]
    assert (
        record["lpips"] is None
        and record["lpips_note"] == "LPIPS needs pictures of at least 31 px a side"
    )

    class Stand(torch.nn.Module):
        weights_sha256 = "0" * 64

        def forward(self, a, b):
            return (a - b).abs().mean((1, 2, 3))

    monkeypatch.setattr(Session, "lpips", lambda _: Stand())
    ramp = with_generator(subject, lambda x, rows: 2 * x - 1)
    record = run(ramp, archive, [EVALUATIONS["scale_x2"]], encoders, num=2)["scale_x2"]
    assert record["lpips"]["centers"] < 1e-6 < record["lpips"]["endpoints"]
    assert record["lpips_weights_sha256"] == "0" * 64 and "lpips_note" not in record


def test_tile_exact_is_zero_for_waves_and_sees_a_seam(subject, archive, encoders):
    record = run(subject, archive, [EVALUATIONS["tile_exact"]], encoders)["tile_exact"]
    assert record["value"] < 1e-6
    seam = with_generator(subject, lambda x, rows: x + 0.25 * (rows.start == 7))
    record = run(seam, archive, [EVALUATIONS["tile_exact"]], encoders)["tile_exact"]
    assert all(
        record[name] == pytest.approx(0.25) for name in ("value", "whole", "window", "extrapolated")
    )


def test_a_view_that_cannot_be_made_is_a_note(subject, archive, encoders):
    def native_only(x, rows):
        if x.shape[-1] != subject.resolution:
            raise ViewError("this network makes 16x16 only")
        return x

    records = run(with_generator(subject, native_only), archive, ALL, encoders)
    assert records["scale_x2"]["value"] is None and "16x16 only" in records["scale_x2"]["note"]
    assert records["kid_toy"]["value"] is not None


def test_a_diverged_network_is_a_note(subject, archive, encoders):
    record = run(with_generator(subject, lambda x, rows: x * math.nan), archive, [TOY], encoders)[
        "kid_toy"
    ]
    assert record["value"] is None and "diverged" in record["note"]


def test_data_of_another_size_is_refused(subject, archive, encoders):
    other = GeneratorSubject(subject.generator, subject.encoder, "small", 32)
    with pytest.raises(UserError, match="16x16, but 32x32 are needed"):
        run(other, archive, [TOY], encoders)


def test_a_generator_without_text_still_names_the_encoder_of_its_loss(tmp_path):
    """ConD asks an image tower in training, so scores by that tower are its teacher's."""
    generator = preset("eidgan-tiny").with_text(0, 0).build()
    Snapshot(generator, "hashed", 16, encoder_id="hashed-64-v1").save_pretrained(tmp_path / "x")
    subject = load_subject(tmp_path / "x", torch.device("cpu"))
    assert subject.encoder is None and subject.encoder_id == "hashed-64-v1"
    assert subject.identity()["text_encoder"] == "hashed-64-v1"


def test_a_network_is_scored_at_another_size(tmp_path, archive, encoders):
    generator = preset("eidgan-tiny").with_text(0, 0).build()
    Snapshot(generator, "hashed", 32).save_pretrained(tmp_path / "x")
    subject = load_subject(tmp_path / "x", torch.device("cpu"), 16)
    record = run(subject, archive, [TOY], encoders)["kid_toy"]
    assert record["value"] is not None
    assert record["view"] == View.square(16).record()


def test_a_network_is_scored_with_several_points_a_pixel(tmp_path, archive, encoders):
    generator = preset("eidgan-tiny").with_text(0, 0).build()
    Snapshot(generator, "hashed", 32).save_pretrained(tmp_path / "x")
    plain, smooth = (
        run(load_subject(tmp_path / "x", torch.device("cpu"), 16, n), archive, [TOY], encoders)
        for n in (None, 2)
    )
    assert "samples" not in plain["kid_toy"] and smooth["kid_toy"]["samples"] == 2
    assert plain["kid_toy"]["value"] != smooth["kid_toy"]["value"]
    generator = preset("stylegan2-tiny").with_text(0, 0).build()
    Snapshot(generator, "hashed", 32).save_pretrained(tmp_path / "y")
    with pytest.raises(UserError, match="samples 2: networks of kind stylegan2"):
        load_subject(tmp_path / "y", torch.device("cpu"), samples=2)


def test_a_network_of_one_size_is_not_scored_at_another(tmp_path):
    generator = preset("stylegan2-tiny").with_text(0, 0).build()
    Snapshot(generator, "hashed", 32).save_pretrained(tmp_path / "x")
    with pytest.raises(UserError, match="--size 16: .*x is a network of stylegan2, .*32 x 32 only"):
        load_subject(tmp_path / "x", torch.device("cpu"), 16)
    assert load_subject(tmp_path / "x", torch.device("cpu"), 32).resolution == 32
