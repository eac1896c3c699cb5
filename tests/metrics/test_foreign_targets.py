"""calc_metrics.py never replaces, clears or extends what is not its own."""

import json

import numpy as np
import pytest

from metrics import write_pictures
from tests.metrics.calc import run


def gen(network, archive, outdir, num=2):
    return run(
        "gen",
        "--network",
        network,
        "--data",
        archive,
        "--metrics",
        "kid_lite2",
        "--num-images",
        num,
        "--outdir",
        outdir,
        "--device",
        "cpu",
    )


def refused(result, words):
    errors = [line for line in result.stderr.splitlines() if line.startswith("Error: ")]
    assert result.exit_code == 1 and len(errors) == 1 and words in errors[0], result.stderr


@pytest.mark.parametrize(
    "names", [["img_0000.png", "img_0001.png"], ["notes.txt"], ["deep/img00000000.png"]]
)
def test_gen_leaves_a_users_pictures_alone(network, archive, tmp_path, names):
    for name in names:
        (tmp_path / "mine" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "mine" / name).write_text("irreplaceable")
    refused(gen(network, archive, tmp_path / "mine"), f"mine holds {names[0]}")
    assert all((tmp_path / "mine" / name).read_text() == "irreplaceable" for name in names)
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_gen_replaces_its_own_pictures_as_a_whole_and_only_when_the_new_ones_are_there(
    network, archive, tmp_path, monkeypatch
):
    assert gen(network, archive, tmp_path / "made", 3).exit_code == 0
    before = {path.name: path.read_bytes() for path in (tmp_path / "made").iterdir()}

    def stop(*arguments, **options):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(write_pictures, "save_png", stop)
        assert gen(network, archive, tmp_path / "made", 2).exit_code == 1
    assert {path.name: path.read_bytes() for path in (tmp_path / "made").iterdir()} == before
    assert gen(network, archive, tmp_path / "made", 2).exit_code == 0
    assert sorted(path.name for path in (tmp_path / "made").iterdir()) == [
        "captions.jsonl",
        "img00000000.png",
        "img00000001.png",
        "pictures.json",
    ]
    (tmp_path / "made" / "img_mine.png").write_text("irreplaceable")
    refused(gen(network, archive, tmp_path / "made", 2), "also holds img_mine.png")
    (tmp_path / "made" / "pictures.json").write_text('{"title": "holidays"}')
    refused(gen(network, archive, tmp_path / "made", 2), "no pictures.json of `gen`")
    assert len(list((tmp_path / "made").iterdir())) == 5


def test_ref_learns_before_its_work_that_it_cannot_write(archive, tmp_path, monkeypatch):
    def no_work(*arguments):
        raise AssertionError("the pictures were read first")

    monkeypatch.setattr("metrics.make_reference.reference_features", no_work)
    (tmp_path / "file").touch()
    dest = tmp_path / "file" / "x.npz"
    arguments = ["--data", archive, "--metrics", "kid_lite2", "--dest", dest, "--device", "cpu"]
    refused(run("ref", *arguments), "x.npz: cannot be written (Not a directory)")


def test_ref_replaces_only_what_ref_wrote(archive, tmp_path):
    dest = tmp_path / "x.npz"
    np.savez(dest, mu=np.zeros(3), sigma=np.zeros((3, 3)))
    before = dest.read_bytes()
    arguments = [
        "ref",
        "--data",
        archive,
        "--metrics",
        "kid_lite2",
        "--dest",
        dest,
        "--device",
        "cpu",
    ]
    refused(run(*arguments), "x.npz holds mu and sigma of another tool")
    assert dest.read_bytes() == before
    dest.write_bytes(b"my weights")
    refused(run(*arguments), "x.npz is no reference statistics of this program")
    dest.unlink()
    assert run(*arguments).exit_code == 0


def test_out_extends_only_files_of_records(network, archive, tmp_path):
    out = tmp_path / "thesis.txt"
    out.write_text("irreplaceable\n")
    arguments = [
        "calc",
        "--network",
        network,
        "--data",
        archive,
        "--metrics",
        "tile_exact",
        "--num-images",
        2,
        "--device",
        "cpu",
        "--cache",
        tmp_path,
        "--out",
        out,
    ]
    refused(run(*arguments), "thesis.txt is not a file of JSON lines with metric, value")
    assert out.read_text() == "irreplaceable\n"
    out.unlink()
    assert run(*arguments).exit_code == 0 and run(*arguments).exit_code == 0
    assert [json.loads(line)["metric"] for line in out.read_text().splitlines()] == [
        "tile_exact"
    ] * 2
