"""The counts of operators and bytes, and the timing of two checkouts."""

from __future__ import annotations

import functools
import io
import json
import sys

import pytest
import torch
from click.testing import CliRunner

from benchmarks import against, bytes_moved, training_step
from networks.generators import preset
from networks.layers.cross_attention import CrossAttentionModulation
from networks.layers.modulated import ModulatedLinear

BACKWARD = "GeneratedBackwardFor_eidgan_modulated_weights_defaultBackward"


def test_an_operator_moves_its_inputs_and_its_results():
    a, b = torch.zeros(4, 8), torch.zeros(8)
    for call, operators, moved in (
        (lambda: a + b, 1, 4 * (32 + 8 + 32)),
        (
            lambda: a + b.expand(4, 8),
            1,
            4 * (32 + 8 + 32),
        ),  # an expanded tensor counts with the numbers that it stores
        (lambda: a.t()[2:].unsqueeze(0), 0, 0),
        (lambda: torch.empty(9).copy_(b[:1].expand(9)), 1, 4 * (1 + 9)),
        (lambda: a.sum(dim=0).bfloat16(), 2, 4 * (32 + 8) + 4 * 8 + 2 * 8),
    ):
        counter = bytes_moved.counted(call)
        assert (counter.operators, counter.bytes) == (operators, moved)


def test_a_backward_is_counted_by_its_nodes():
    x = torch.ones(8, requires_grad=True)
    counter = bytes_moved.counted((x * 2).sum().backward)
    assert counter.operators_of["MulBackward0"] == 1
    assert counter.bytes_of["MulBackward0"] == 4 * (
        1 + 8
    )  # the gradient of a sum is an expanded tensor of one number


@pytest.mark.slow
def test_a_gpu_runs_one_operator_for_the_backward_of_a_layers_weights():
    parts = bytes_moved.count("eidgan-tiny", 16, 2, "cuda", torch.bfloat16, "ours")
    parts_of_it = preset("eidgan-tiny").build().modules()
    layers = sum(isinstance(part, ModulatedLinear) for part in parts_of_it)
    assert parts["G backward"].operators_of[BACKWARD] == layers > 10


@pytest.mark.parametrize("backward", [False, True])
def test_casts_of_the_attention_do_not_grow_with_the_lines(backward):
    """This also holds on a GPU, where autocast computes LayerNorm and softmax in float32."""
    layer = CrossAttentionModulation(16, 8, attention_dim=8, num_heads=2)
    moved = []
    for positions in (64, 128):
        x = torch.randn(2, positions, 16).bfloat16().requires_grad_()
        with bytes_moved.as_on("cuda"), torch.autocast("cpu", torch.bfloat16):
            counter = bytes_moved.counted(functools.partial(layer, x, torch.randn(2, 4, 8)))
            y = layer(x, torch.randn(2, 4, 8))
        if backward:
            counter = bytes_moved.counted(functools.partial(y.backward, torch.ones_like(y)))
        casts = [name for name in counter.bytes_of if "ToCopy" in name or "to_copy" in name]
        moved.append(sum(counter.bytes_of[name] for name in casts))
    assert moved[0] == moved[1] > 0


@pytest.mark.slow
def test_the_script_writes_its_record(tmp_path, monkeypatch):
    small = functools.partial(
        training_step.WaveletDiscriminatorConfig, channel_base=128, spectral_scale=0
    )
    monkeypatch.setattr(training_step, "WaveletDiscriminatorConfig", small)
    monkeypatch.setattr(bytes_moved, "PARTS", {"G": training_step.PARTS["G"]})
    path = tmp_path / "r.json"
    arguments = [
        *"--generator eidgan-tiny --resolutions 16 --batches 2 --dtypes bf16".split(),
        *"--variants ours --device cuda".split(),
        "--json",
        str(path),
    ]
    CliRunner().invoke(bytes_moved.main, arguments, catch_exceptions=False)
    gbyte = {row["part"]: row["gbyte"] for row in json.loads(path.read_text())["rows"]}
    assert gbyte["step: G"] > gbyte["G forward"] + gbyte["G backward"] > 0 < gbyte["inference"]


def test_a_side_answers_with_seconds(monkeypatch, capsys):
    case = {
        "part": "forward",
        "generator": "eidgan-tiny",
        "resolution": 8,
        "batch": 1,
        "dtype": "fp32",
    }
    monkeypatch.setattr(sys, "stdin", io.StringIO(2 * (json.dumps(case) + "\n")))
    against.work()
    seconds = [float(line) for line in capsys.readouterr().out.split()]
    assert len(seconds) == 2 and min(seconds) > 0


def test_ratios_are_of_calls_in_turn(monkeypatch, tmp_path):
    class Side:
        def __init__(self, folder):
            self.other, self.round = folder == tmp_path, 0

        def seconds(self, case):
            self.round += 1
            return self.round * (3.0 if self.other else 2.0)

        def close(self):
            pass

    monkeypatch.setattr(against, "Side", Side)
    path = tmp_path / "r.json"
    arguments = [str(tmp_path), *"--parts G --dtypes fp32 --rounds 3".split(), "--json", str(path)]
    CliRunner().invoke(against.main, arguments, catch_exceptions=False)
    (row,) = json.loads(path.read_text())["rows"]
    assert (row["other_cpu_s"], row["cpu_s"], row["ratio"]) == (6, 4, 1.5)
