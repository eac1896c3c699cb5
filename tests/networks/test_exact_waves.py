"""Sine and cosine of exported graphs against float64, by PyTorch and by onnxruntime."""

from __future__ import annotations

import importlib.util
import math

import pytest
import torch

from networks import exact_waves
from networks.exported_parts import Graph

LIMIT = 1e-6
ONNX = all(importlib.util.find_spec(name) for name in ("onnx", "onnxscript", "onnxruntime"))


class Waves(Graph):
    """x [S] -> the sine of x and the cosine of x, by the operators of PyTorch."""

    input_names, output_names = ["x"], ["sine", "cosine"]
    axes = {"x": {0: "length"}}

    def example(self):
        return {"x": torch.ones(3)}

    def forward(self, *inputs):
        (x,) = inputs
        return x.sin(), x.cos()


def phases(largest):
    """Random phases, and those near the ends of a turn, where the nearest integer changes."""
    draws = torch.Generator().manual_seed(0)
    anywhere = (torch.rand(100_000, generator=draws) * 2 - 1) * largest
    turns = (anywhere[:1000] / (2 * math.pi)).round() + 0.5
    ends = (turns.double() * 2 * math.pi).float()
    return torch.cat([anywhere, ends, ends.nextafter(ends * 2), torch.zeros(1)])


def worst(x, sine, cosine):
    exact = x.double()
    return max((sine - exact.sin()).abs().max(), (cosine - exact.cos()).abs().max()).item()


@pytest.mark.parametrize("largest", [0.01, 3.2, 100.0, 1e5, 2 * math.pi * 2**20])
def test_waves_are_exact_to_a_millionth(largest):
    x = phases(largest)
    assert worst(x, exact_waves.sine(x), exact_waves.cosine(x)) < LIMIT


def test_waves_without_a_phase_stay_between_minus_one_and_one():
    x = torch.tensor([1e8, -3e12, 1e30])
    for found in (exact_waves.sine(x), exact_waves.cosine(x)):
        assert found.abs().max() < 1 + LIMIT


@pytest.mark.parametrize("part", range(exact_waves.NUM_PARTS - 1))
def test_products_of_the_parts_of_a_turn_are_exact(part):
    turns = torch.arange(2**20 - 1000, 2**20, dtype=torch.float32)
    part = exact_waves.PARTS[part]
    assert torch.equal((turns * part).double(), turns.double() * part)


def test_a_replaced_program_has_no_sine_and_no_cosine():
    program = torch.export.export(Waves(), (torch.ones(3),))
    replaced = exact_waves.replace_waves(program)
    used = {str(node.target) for node in replaced.graph.nodes}
    assert not used & {"aten.sin.default", "aten.cos.default"}
    x = phases(50.0)[:3]
    assert worst(x, *replaced.module()(x)) < LIMIT


@pytest.mark.slow
@pytest.mark.skipif(not ONNX, reason="ONNX is optional: requirements-optional.txt")
def test_a_written_graph_computes_exact_waves_without_the_operators(tmp_path):
    import onnx

    from networks import export_formats as formats

    path = tmp_path / "waves.onnx"
    formats.write_graph(Waves(), path, {})
    used = {node.op_type for node in onnx.load(path).graph.node}
    assert used == {"Mul", "Add", "Sub", "Floor", "Clip"}
    x = phases(1e5)
    found = formats.run_onnx(path, {"x": x})
    assert worst(x, found["sine"], found["cosine"]) < LIMIT
