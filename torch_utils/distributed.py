"""Ranks under torchrun; a plain `python` run is the world of one. Gradients are averaged by hand, once a phase.

The environment variables are torchrun's: RANK, WORLD_SIZE, LOCAL_RANK. gloo serves the CPU, NCCL the GPU.
"""

from __future__ import annotations

import contextlib
import datetime
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

import torch
import torch.distributed as dist

from dnnlib.errors import UserError

T = TypeVar("T")


class _Hosts:
    """The group through which Python numbers go: gloo's, also where tensors go by NCCL."""

    group: Any = None


def rank() -> int:
    return dist.get_rank() if dist.is_initialized() else 0


def world_size() -> int:
    return dist.get_world_size() if dist.is_initialized() else 1


def is_main() -> bool:
    return rank() == 0


def resolve_device(name: str) -> torch.device:
    """'auto' -> cuda, mps or cpu, whichever is there; a CUDA device gets this process's LOCAL_RANK."""
    if name == "auto":
        name = (
            "cuda"
            if torch.cuda.is_available()
            else "mps"
            if torch.backends.mps.is_available()
            else "cpu"
        )
    if name.startswith("cuda:") and int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UserError(
            f"--device {name}: one GPU for several processes; --device cuda gives each its own"
        )
    if name == "cuda":
        name = f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
    if not re.fullmatch(r"cpu|mps|cuda:\d+", name):
        raise UserError(f"--device {name}: unknown device; use auto, cpu, cuda, cuda:N or mps")
    device = torch.device(name)
    if device.type == "cuda" and device.index >= torch.cuda.device_count():
        raise UserError(
            f"--device {name}: torch sees {torch.cuda.device_count()} CUDA devices; use --device cpu, fewer "
            "processes, or check the driver with nvidia-smi"
        )
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise UserError("--device mps: this machine has no Metal device; use --device cpu")
    return device


@contextlib.contextmanager
def process_group(device: torch.device, timeout_minutes: float = 30) -> Iterator[None]:
    """Join torchrun's group for the length of the block; outside torchrun only choose the GPU."""
    if device.type == "cuda":
        torch.cuda.set_device(
            device
        )  # for what asks the current one: pinning threads, limits of kernels
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield
        return
    # torch's optimisers import this module, and a default argument in it keeps the group that exists
    # at that moment. A group that outlives this block has threads that abort the process at its exit,
    # once in twenty runs. So the module is imported here, before there is a group. A plain
    # `import torch.distributed...` would make `torch` a local name of this function, and
    # `torch.cuda.set_device` above would fail on every CUDA device.
    from torch.distributed.nn import functional  # noqa: F401

    backend = "nccl" if device.type == "cuda" else "gloo"
    dist.init_process_group(backend, timeout=datetime.timedelta(minutes=timeout_minutes))
    _Hosts.group = dist.new_group(backend="gloo") if backend != "gloo" else None
    try:
        yield
    finally:
        _Hosts.group = None
        dist.destroy_process_group()


def sum_gradients(parameters: Iterable[torch.nn.Parameter]) -> None:
    """Add the gradients of all ranks in one flattened all-reduce; a missing gradient counts as zero if any rank has one."""
    if world_size() == 1:
        return
    parameters = [p for p in parameters if p.requires_grad]
    if not parameters:
        return
    grads = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
    flat = torch.cat([g.flatten() for g in grads])
    dist.all_reduce(flat)
    present = sum_of_numbers([p.grad is not None for p in parameters])
    sizes = [g.numel() for g in grads]
    pieces = [piece.view_as(g) for piece, g in zip(flat.split(sizes), grads, strict=True)]
    torch._foreach_copy_(grads, pieces)  # in place, so that each keeps its memory format
    for parameter, grad, seen in zip(parameters, grads, present, strict=True):
        if seen:
            parameter.grad = grad


def sum_over_ranks(values: torch.Tensor) -> torch.Tensor:
    """Elementwise sum over ranks of a tensor that has the same shape everywhere."""
    if world_size() == 1:
        return values
    values = values.clone()
    dist.all_reduce(values)
    return values


def sum_of_numbers(numbers: Sequence[int]) -> list[int]:
    """Elementwise sum over ranks of Python numbers. Waits for other ranks, but for no device."""
    if world_size() == 1:
        return list(numbers)
    total = torch.tensor(numbers, dtype=torch.long)
    dist.all_reduce(total, group=_Hosts.group)
    return total.tolist()


def broadcast_from_main(tensors: Iterable[torch.Tensor]) -> None:
    """Overwrite every rank's tensors with rank 0's, in place."""
    if world_size() > 1:
        for tensor in tensors:
            dist.broadcast(tensor, src=0)


def gather_rows(rows: torch.Tensor) -> torch.Tensor:
    """Concatenate [N, ...] over ranks in rank order; gradients flow into this rank's own rows."""
    if world_size() == 1:
        return rows
    parts = [torch.empty_like(rows) for _ in range(world_size())]
    dist.all_gather(parts, rows.contiguous().detach())
    parts[rank()] = rows
    return torch.cat(parts)


def gather_objects(value: Any) -> list[Any]:
    """Python values of all ranks, in rank order, on every rank."""
    if world_size() == 1:
        return [value]
    values: list[Any] = [None] * world_size()
    dist.all_gather_object(values, value)
    return values


def from_main(value: Any) -> Any:
    """Rank 0's value on every rank."""
    if world_size() == 1:
        return value
    box = [value]
    dist.broadcast_object_list(box, src=0)
    return box[0]


def main_first(action: Callable[[], T]) -> T:
    """`action()` on rank 0, then on all others, such as what downloads a file; an error of rank 0 is raised on every rank."""
    results: list[T] = []
    problem = None
    if is_main():
        try:
            results.append(action())
        except Exception as error:  # not swallowed: raised below, on every rank
            problem = error
    problem = from_main(problem)
    if problem is not None:
        raise problem
    return results[0] if results else action()


def on_main(action: Callable[[], Any]) -> None:
    """Do something on rank 0 only, then go on together; its `UserError` is raised on every rank, so that none waits."""
    problem = None
    if is_main():
        try:
            action()
        except UserError as error:
            problem = str(error)
    problem = from_main(problem)
    if problem is not None:
        raise UserError(problem)
