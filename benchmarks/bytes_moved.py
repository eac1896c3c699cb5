"""Count operators and the bytes that they move: `python -m benchmarks.bytes_moved --json FILE`.

Nothing is computed or timed. Tensors are PyTorch's fake tensors, which have a shape and no data, so
that any size is counted in seconds. With `--device cuda` the counts are those of a GPU, also on a
machine without one: each registered operator counts as one, as if the kernels were built, and
autocast casts as on a GPU.

An operator moves the bytes of its inputs and its results, each once. A broadcast tensor counts with
the numbers that it stores; views move no bytes. A kernel that reads an input twice, or an operator
with several launches, moves and launches more than is counted here. The update by Adam is not
counted.
"""

from __future__ import annotations

import contextlib
import math
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from unittest import mock

import click
import torch
from torch._subclasses import FakeTensorMode
from torch.nn import functional
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from benchmarks.generator import text_for
from benchmarks.harness import DTYPES, Bench, benchmark_options, numbers
from benchmarks.training_step import PARTS, Step
from networks.coordinates import View
from networks.generators import preset
from networks.interfaces import Generator
from torch_utils.ops.backend import chosen, using

WRITES_ONLY = {"copy_", "fill_", "zero_"}  # they do not read what they overwrite
NO_WORK = {
    "_unsafe_view",
    "detach",
    "empty",
    "new_empty",
    "empty_like",
    "empty_strided",
    "new_empty_strided",
}


def held_bytes(x: torch.Tensor) -> int:
    """Bytes of the distinct numbers of a tensor; an expanded axis counts as one number."""
    sizes = zip(x.shape, x.stride(), strict=True)
    return x.element_size() * math.prod(size for size, stride in sizes if stride)


class MovedBytes(TorchDispatchMode):
    """Counts the operators and bytes of a `with` block, in total and by source.

    The source of an operator is the autograd node that runs it in a backward, and the operator's
    name in a forward.
    """

    def __init__(self) -> None:
        super().__init__()
        self.bytes_of: Counter[str] = Counter()
        self.operators_of: Counter[str] = Counter()

    @property
    def operators(self) -> int:
        return self.operators_of.total()

    @property
    def bytes(self) -> int:
        return self.bytes_of.total()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        namespace, name = function._schema.name.split("::")
        if namespace == "prim" or function.is_view or name in NO_WORK:
            return result
        node = torch._C._current_autograd_node()
        source = node.name().split("::")[-1] if node else name
        read = args[1:] if name in WRITES_ONLY else args
        leaves = tree_leaves([read, kwargs, result])
        self.bytes_of[source] += sum(held_bytes(x) for x in leaves if isinstance(x, torch.Tensor))
        self.operators_of[source] += 1
        return result


class CudaAutocast(TorchFunctionMode):
    """Autocast of a CPU, in which the functions of `WIDE` compute in float32, as on a GPU."""

    WIDE = {
        functional.layer_norm,
        functional.softplus,
        torch.softmax,
        torch.Tensor.softmax,
        torch.Tensor.pow,
        torch.Tensor.square,
        torch.Tensor.rsqrt,
        torch.Tensor.sum,
    }

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if function in self.WIDE and torch.is_autocast_enabled("cpu"):
            args = (args[0].float(), *args[1:])
        return function(*args, **(kwargs or {}))


@contextlib.contextmanager
def as_on(device: str) -> Iterator[None]:
    """A context in which fake CPU tensors count as tensors of `device`.

    Fake CUDA tensors would suffice for a forward, but autograd refuses them without a GPU.
    """
    if device == "cpu":
        yield
        return

    def covers(operator: str, _: str, dtype: torch.dtype, *__: object) -> bool:
        return operator != "biline_decode_backward" or dtype != torch.float32

    op = "torch_utils.ops"
    with (
        CudaAutocast(),
        mock.patch(f"{op}.biline.formula.covers", covers),
        mock.patch(f"{op}.modulated_linear.registered", lambda *_, **__: chosen() != "ref"),
        mock.patch(f"{op}.modulated_linear.samples.GROUP_NUMBERS", 0),
    ):
        yield


def counted(call: Callable[[], object]) -> MovedBytes:
    with MovedBytes() as counter:
        call()
    return counter


def generator_parts(
    generator: Generator, inputs: tuple, view: View, dtype: torch.dtype
) -> dict[str, MovedBytes]:
    """Counts of the forward without gradients, the forward with gradients, and the backward."""

    def draw() -> torch.Tensor:
        with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
            return generator(*inputs, view)

    with torch.no_grad():
        parts = {"inference": counted(draw)}
    images: list[torch.Tensor] = []
    parts["G forward"] = counted(lambda: images.append(draw()))
    parts["G backward"] = counted(lambda: images[0].backward(torch.ones_like(images[0])))
    return parts


def step_parts(step: Step) -> dict[str, MovedBytes]:
    """Counts of the parts of `benchmarks.training_step`."""
    with contextlib.ExitStack() as stack:
        for optimizer in step.optimizers:
            stack.enter_context(mock.patch.object(optimizer, "step"))
        return {f"step: {part}": counted(partial(call, step)) for part, call in PARTS.items()}


def count(
    name: str,
    resolution: int,
    batch: int,
    device: str,
    dtype: torch.dtype,
    variant: str,
    steps: bool = False,
) -> dict[str, MovedBytes]:
    """Counts of every part of one case. variant: 'eager' (--ops ref) or 'ours'."""
    # Fake parameters cannot be moved to a device, and need not be moved.
    stay = mock.patch.object(torch.nn.Module, "to", lambda network, *_: network)
    with FakeTensorMode(), as_on(device), using("ref" if variant == "eager" else "auto"), stay:
        config = preset(name)
        generator = config.build()
        inputs = (torch.randn(batch, *generator.latent_shape), text_for(config, batch, "cpu"))
        parts = generator_parts(generator, inputs, View.square(resolution), dtype)
        if steps:
            parts |= step_parts(Step(name, resolution, batch, "cpu", dtype, variant))
        return parts


@click.command()
@benchmark_options("64", "32")
@click.option("--generator", "name", default="eidgan", show_default=True, help="The preset.")
@click.option("--steps/--no-steps", default=True, show_default=True, help="Also steps of G and D.")
@click.option("--sources", default=8, show_default=True, help="Sources to list for each part.")
def main(
    name: str,
    steps: bool,
    sources: int,
    device: str,
    resolutions: str,
    batches: str,
    dtypes: str,
    variants: str,
    rounds: int,
    seconds: float,
    json_path: Path | None,
) -> None:
    """Count operators and bytes of a generator's forward and backward, and of a training step."""
    bench = Bench("bytes_moved", dict(locals()) | {"device": "cpu"})
    for variant in variants.split(","):
        if variant == "compile":
            continue  # the compiler chooses its operators, which are not counted here
        for dtype in dtypes.split(","):
            for resolution in numbers(resolutions):
                for batch in numbers(batches):
                    labels = {
                        "generator": name,
                        "resolution": resolution,
                        "batch": batch,
                        "device": device,
                        "dtype": dtype,
                        "variant": variant,
                    }
                    parts = count(name, resolution, batch, device, DTYPES[dtype], variant, steps)
                    for part, counter in parts.items():
                        add(bench, {"part": part} | labels, counter, sources)
    bench.write()


def add(bench: Bench, labels: dict, counter: MovedBytes, sources: int) -> None:
    bench.add(labels | {"operators": counter.operators, "gbyte": counter.bytes / 1e9})
    largest = {
        source: {"operators": counter.operators_of[source], "gbyte": moved / 1e9}
        for source, moved in counter.bytes_of.most_common(sources)
    }
    for source, row in largest.items():
        click.echo(f"    {source}: {row['operators']} operators, {row['gbyte']:.3g} GB")
    bench.rows[-1]["largest"] = largest


if __name__ == "__main__":
    main()
