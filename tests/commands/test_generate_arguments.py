"""How generate.py parses and checks seeds, prompts and sizes."""

import pytest
from click.testing import CliRunner

import export
import project
from dnnlib.errors import UserError
from dnnlib.prompts import read_prompts
from dnnlib.seeds import parse_seeds
from generate import main
from networks.coordinates import check_picture_size
from networks.generators import preset
from networks.picture_names import slug
from networks.snapshot import Snapshot


def test_seeds():
    assert parse_seeds("0-3,7") == [0, 1, 2, 3, 7]
    for text in ("0-9999999999999", "0-999999,5"):
        with pytest.raises(UserError, match="at most 1000000 seeds"):
            parse_seeds(text)
    for text in ("", "a", "1-", "-1", "9" * 5000):
        with pytest.raises(UserError, match="expected numbers and ranges"):
            parse_seeds(text)


def test_prompts(tmp_path):
    path = tmp_path / "prompts.txt"
    path.write_bytes("\ufeffein Apfel\n\n\u0431\u0435\u043b\u044b\u0439\n".encode())
    assert read_prompts(("a",), str(path)) == ["a", "ein Apfel", "\u0431\u0435\u043b\u044b\u0439"]
    path.write_bytes("\u00e4pfel".encode("latin-1"))
    with pytest.raises(UserError, match="byte 0 is not UTF-8"):
        read_prompts((), str(path))
    with pytest.raises(UserError, match="is not UTF-8 text"):
        read_prompts((b"\xe4".decode("utf-8", "surrogateescape"),), None)
    with pytest.raises(UserError, match="cannot be read"):
        read_prompts((), str(tmp_path))


@pytest.mark.parametrize(
    "command, options",
    [(export.main, "--format torch-export --out x.pt2"), (project.main, "--target none.png")],
)
def test_a_prompt_of_other_bytes_is_refused_before_the_work(command, options, tmp_path):
    prompt = b"caf\xe9".decode("utf-8", "surrogateescape")
    line = ["--network", str(tmp_path / "none"), "--prompt", prompt, *options.split()]
    done = CliRunner().invoke(command, line)
    assert done.exit_code == 1 and "--prompt 'caf\\udce9': is not UTF-8 text" in done.stderr


@pytest.mark.parametrize(
    "prompt, name",
    [
        ("Flag: Chad!", "flag-chad"),
        (
            "\u0431\u0435\u043b\u044b\u0439 \u043a\u043e\u0442",
            "\u0431\u0435\u043b\u044b\u0439-\u043a\u043e\u0442",
        ),
        ("\u732b/\u72ac", "\u732b-\u72ac"),
        ("../..", "prompt"),
        ("A_b" * 99, ("a-b" + "a-b" * 99)[:48].strip("-")),
    ],
)
def test_slugs_keep_every_script_and_nothing_else(prompt, name):
    assert slug(prompt) == name and len(slug("\u732b" * 999).encode()) < 200


def test_sizes_that_no_picture_has():
    check_picture_size(65536, 16384)
    for size in ((2_000_000, 2_000_000), (65537, 1), (65536, 16385)):
        with pytest.raises(UserError, match="at most 65536 pixels a side"):
            check_picture_size(*size)


def test_a_system_with_one_size_refuses_another_in_one_line(tmp_path):
    Snapshot(preset("stylegan2-tiny").build(), "hashed", 32).save_pretrained(tmp_path / "s")
    done = CliRunner().invoke(
        main,
        [
            "--network",
            str(tmp_path / "s"),
            *"--prompts x --size 48x32".split(),
            "--outdir",
            str(tmp_path / "out"),
        ],
    )
    assert done.exit_code == 1 and not list(tmp_path.glob("out/*.png"))
    assert (
        "Error: a stylegan2 network draws 32x32 of the whole frame only, not 48x32" in done.stderr
        and "Traceback" not in done.stderr
    )


def test_a_center_without_truncation_is_refused(tmp_path):
    call = ["--network", "openmoji64", "--outdir", str(tmp_path / "out")]
    done = CliRunner().invoke(main, [*call, "--trunc-center", "prompt"])
    assert done.exit_code == 1 and not (tmp_path / "out").exists()
    assert done.stderr == ("Error: --trunc-center: has no effect with --trunc 1; add --trunc 0.7\n")
