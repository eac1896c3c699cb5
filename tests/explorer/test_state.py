"""`PictureState`: what a request may say, and the name of a picture."""

from __future__ import annotations

import shlex

import pytest

from dnnlib.errors import UserError
from explorer.state import MAX_PROMPT, PictureState
from explorer.training_runs import curves

FULL = {
    "network": "a",
    "prompt": " a cat ",
    "seed": 7,
    "truncation": 0.5,
    "text_noise": 0.25,
    "rotate": -30,
    "warp": "wave",
    "blend": {"prompt": "a dog's nose", "seed": 9, "weight": 0.75},
}


def test_every_field_changes_the_name():
    changes = {
        "network": "b",
        "prompt": "a dog",
        "seed": 8,
        "truncation": 0.6,
        "text_noise": None,
        "rotate": 0,
        "warp": None,
        "blend": None,
    }
    keys = {PictureState.parse(FULL | {name: value}).key("0") for name, value in changes.items()}
    keys |= {PictureState.parse(FULL).key("0"), PictureState.parse(FULL).key("1")}
    assert len(keys) == len(FULL) + 2
    assert PictureState.parse(FULL | {"prompt": "a cat"}).key("0") in keys  # blanks do not count


@pytest.mark.parametrize(
    "change, sentence",
    [
        ({"seeds": 1}, "picture.seeds: no such field; did you mean 'seed'?"),
        ({"seed": 1.5}, "picture.seed: expected int"),
        ({"seed": -1}, "seed -1: must be from 0"),
        ({"seed": 2**31}, "seed 2147483648: must be from 0"),
        ({"truncation": 1e9}, "truncation 1000000000.0: must be from 0 to 2"),
        ({"truncation": float("nan")}, "picture.truncation: must be a finite number"),
        ({"text_noise": -1}, "text_noise -1.0: must be from 0 to 4"),
        ({"rotate": 400}, "rotate 400.0: must be from -360 to 360"),
        ({"warp": "/etc/field.npy"}, "warp '/etc/field.npy': is not known"),
        ({"prompt": "x" * (MAX_PROMPT + 1)}, f"prompt: has 401 characters; at most {MAX_PROMPT}"),
        ({"prompt": "a\0b"}, "prompt: holds a control character"),
        ({"prompt": "a\ud800"}, "prompt: holds a control character"),
        ({"blend": {"weight": 2}}, "blend.weight 2.0: must be from 0 to 1"),
        ({"blend": {"seed": -2}}, "blend.seed -2: must be from 0"),
        ({"blend": {"prompt": "a\nb"}}, "blend.prompt: holds a control character"),
    ],
)
def test_what_is_out_of_bounds_is_named(change, sentence):
    with pytest.raises(UserError) as refused:
        PictureState.parse(FULL | change)
    assert str(refused.value).startswith(sentence)


@pytest.mark.parametrize("data", [None, [], "x", 3, {}])
def test_other_json_is_refused(data):
    with pytest.raises(UserError, match="picture: "):
        PictureState.parse(data)


def test_the_command_line_survives_the_shell():
    state = PictureState.parse(FULL)
    line = state.command("runs/x y", "-1.0,0,1,1", "20x10", {"--device": "cpu"})
    assert shlex.split(line) == [
        *("python", "generate.py", "--network", "runs/x y", "--prompts", "a cat"),
        *("--seeds", "7", "--trunc", "0.5", "--text-noise", "0.25"),
        *("--blend", "a dog's nose", "9", "0.75", "--rotate=-30.0", "--warp", "wave"),
        *("--window=-1.0,0,1,1", "--size", "20x10", "--device", "cpu"),
    ]


@pytest.mark.parametrize("value", [10**400, -(10**400), float("nan"), float("inf")])
def test_numbers_that_no_float_holds_are_refused(state, value):
    for field in ("seed", "rotate", "truncation"):
        with pytest.raises(UserError, match=field) as caught:
            PictureState.parse(state | {field: value})
        assert len(str(caught.value)) < 600


def test_curves_of_a_strangers_run(tmp_path):
    lines = ['{"kimg": 1' + "0" * 400 + ', "eta_s": NaN, "a/b": true}', "[" * 20_000, "7", "{"]
    (tmp_path / "stats.jsonl").write_text("\n".join(lines))
    found = curves(tmp_path)
    assert found["kimg"] == [None] and found["last"] == {"kimg": None, "eta_s": None}
    assert found["series"] == {"a/b": [None]}
