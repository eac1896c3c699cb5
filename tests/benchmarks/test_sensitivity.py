"""Each measure responds to blur, noise, dropped modes and exchanged captions as it should."""

import json

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from scipy.ndimage import gaussian_filter

from benchmarks import sensitivity
from benchmarks.sensitivity import (
    NOTHING,
    ROWS,
    blurred,
    captions_shuffled,
    measure,
    modes_dropped,
    noisy,
    one_motif,
    ruled,
)
from datasets.archive import write_archive
from datasets.openmoji import find_emojis, openmoji_info, openmoji_pictures
from datasets.text_image import TextImageDataset
from docs.figure_tables import TABLES
from metrics.arithmetic.seeded_pairs import differing
from metrics.measures.lattice import axis_shares
from metrics.measures.motif import likeness, phases

DAMAGES = {
    "blur": blurred(2),
    "noise": noisy(40),
    "modes": modes_dropped(2),
    "captions": captions_shuffled(100),
}


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sensitivity")
    emojis, unnamed = find_emojis(max_images=120)
    write_archive(
        folder / "data.zip",
        openmoji_pictures(emojis, (32, 32)),
        (32, 32),
        openmoji_info(emojis, unnamed),
    )
    dataset = TextImageDataset(folder / "data.zip", split="all")
    records = [dataset[index] for index in range(len(dataset))]
    rows = [row for row in ROWS if row.name != "clip_r_small"]
    return list(measure(records, [NOTHING, *DAMAGES.values()], 60, folder, rows))


@pytest.mark.slow
def test_measures_move_the_right_way(found):
    clean, blur, noise, modes, captions = (numbers for _, numbers in found)
    for name in ("Frechet", "KID", "CMMD"):
        assert min(blur[name], noise[name], modes[name]) > clean[name], name
    for damaged in (blur, noise):
        assert all(
            damaged[name] < clean[name]
            for name in ("precision", "recall", "density", "coverage", "CLIP-S")
        )
    assert min(blur["swd"], noise["swd"]) > clean["swd"]
    assert modes["recall"] < clean["recall"] and modes["coverage"] < clean["coverage"]
    assert (
        modes["precision"] > blur["precision"] and modes["density"] > 0.8 * clean["density"]
    )  # the remaining pictures are as good as before
    assert captions["CLIP-S"] < 0.5 * clean["CLIP-S"]
    assert {name: value for name, value in captions.items() if name != "CLIP-S"} == {
        name: value for name, value in clean.items() if name != "CLIP-S"
    }  # the other measures do not use captions


def test_planted_lines_and_a_planted_motif_are_for_their_measures():
    rng = np.random.default_rng(0)
    smooth = gaussian_filter(rng.standard_normal((40, 3, 32, 32)), (0, 0, 1.5, 1.5))
    real = (150 + 40 * smooth / smooth.std()).clip(0, 255).astype(np.uint8)

    def damaged(damage):
        pictures, captions = damage.change(list(torch.from_numpy(real)), [], ["a", "b"])
        assert captions == ["a", "b"]
        return torch.stack(pictures).numpy()

    def alike(pictures):
        return likeness(phases(pictures), differing(range(40), 200))

    lines, motif = damaged(ruled(20)), damaged(one_motif(0.6))
    assert (axis_shares(lines) / axis_shares(real))[1] > 2  # a wave of 8 pixels, the second octave
    assert axis_shares(motif) / axis_shares(real) == pytest.approx(1, abs=0.6)
    assert alike(motif) > 1.5 * alike(real)


def test_the_record_is_what_the_page_is_written_from(tmp_path, monkeypatch):
    write_archive(
        tmp_path / "x.zip", openmoji_pictures(find_emojis(max_images=2)[0], (32, 32)), (32, 32), {}
    )
    rows = [("nothing", {"KID": 0.0}), ("blur", {"KID": 0.12345})]
    monkeypatch.setattr(sensitivity, "measure", lambda *_: iter(rows))
    words = ["--data", str(tmp_path / "x.zip"), "--json", str(tmp_path / "record.json")]
    done = CliRunner().invoke(sensitivity.main, words)
    assert done.exit_code == 0, done.output
    assert [json.loads(line) for line in done.output.splitlines()] == [
        {"damage": name, "values": values} for name, values in rows
    ]
    table = TABLES["sensitivity"](json.loads((tmp_path / "record.json").read_text()))
    assert table.splitlines()[2:] == ["| nothing | 0 |", "| blur | 0.123 |"]
