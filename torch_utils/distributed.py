"""Collective operations over the ranks that torchrun starts.

A plain `python` run has one rank, and every function here works for it too. Ranks are described by
torchrun's environment variables RANK, WORLD_SIZE and LOCAL_RANK. The backend is gloo for CPUs and
NCCL for GPUs. There is no DistributedDataParallel: `sum_gradients` adds up the gradients once for
each optimiser step.
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
    """Process groups for Python objects; None = the default group.

    group: for numbers; a gloo group if tensors use NCCL.
    patient: in which ranks wait up to a day for work that rank 0 does alone, such as downloads and
        text features. If rank 0 dies, they fail at once.
    """

    group: Any = None
    patient: Any = None


def rank() -> int:
    """The number of this process, 0 to `world_size()` - 1."""
    return dist.get_rank() if dist.is_initialized() else 0


def world_size() -> int:
    """The number of ranks; 1 without a process group."""
    return dist.get_world_size() if dist.is_initialized() else 1


def is_main() -> bool:
    """Whether this process is rank 0."""
    return rank() == 0


def resolve_device(name: str) -> torch.device:
    """The device for `--device auto|cpu|cuda|cuda:N|mps`.

    'auto' means cuda, mps or cpu, the first that this machine has. 'cuda' means the GPU of this
    process's LOCAL_RANK. Raises `UserError` for an unknown name and for a device that is missing.
    """
    if name == "auto":
        name = "mps" if torch.backends.mps.is_available() else "cpu"
        name = "cuda" if torch.cuda.is_available() else name
    if name.startswith("cuda:") and int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UserError(
            f"--device {name}: several processes cannot share one GPU; "
            "use --device cuda, which gives one GPU to each process"
        )
    if name == "cuda":
        name = f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
    if not re.fullmatch(r"cpu|mps|cuda:\d+", name):
        raise UserError(f"--device {name}: unknown device; use auto, cpu, cuda, cuda:N or mps")
    index = int(name.partition(":")[2] or 0)  # `torch.device` takes no large numbers
    if name.startswith("cuda") and index >= torch.cuda.device_count():
        raise UserError(
            f"--device {name}: torch sees {torch.cuda.device_count()} CUDA devices; "
            "use --device cpu, fewer processes, or check the driver with nvidia-smi"
        )
    if name == "mps" and not torch.backends.mps.is_available():
        raise UserError("--device mps: this machine has no Metal device; use --device cpu")
    return torch.device(name)


@contextlib.contextmanager
def process_group(device: torch.device, timeout_minutes: float = 30) -> Iterator[None]:
    """Join the process group of torchrun until the block ends.

    Outside torchrun, only `device` becomes the current CUDA device.

    timeout_minutes: how long a collective operation waits for other ranks before it fails.
        `main_first` and `on_main` wait for rank 0 up to a day.
    """
    if device.type == "cuda":
        # Threads that pin memory and queries of kernel limits use the current device.
        torch.cuda.set_device(device)
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield
        return
    # torch's optimisers import this module, and a default argument in it keeps a reference to the
    # group that exists at that moment. A group that outlives this block has threads that abort the
    # process at exit, once in twenty runs. So the module is imported here, before there is a group.
    # A plain `import torch.distributed...` would make `torch` a local name of this function, and
    # `torch.cuda.set_device` above would fail on every CUDA device.
    from torch.distributed.nn import functional  # noqa: F401

    backend = "nccl" if device.type == "cuda" else "gloo"
    dist.init_process_group(backend, timeout=datetime.timedelta(minutes=timeout_minutes))
    _Hosts.group = dist.new_group(backend="gloo") if backend != "gloo" else None
    _Hosts.patient = dist.new_group(backend="gloo", timeout=datetime.timedelta(days=1))
    try:
        yield
    finally:
        _Hosts.group = _Hosts.patient = None
        dist.destroy_process_group()


def sum_gradients(parameters: Iterable[torch.nn.Parameter]) -> None:
    """Replace each parameter's gradient by its sum over ranks, in one flattened all-reduce.

    A rank without a gradient contributes zero. A parameter without a gradient on every rank keeps
    none.
    """
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
    torch._foreach_copy_(grads, pieces)  # in place, so that each gradient keeps its memory format
    for parameter, grad, seen in zip(parameters, grads, present, strict=True):
        if seen:
            parameter.grad = grad


def sum_over_ranks(values: torch.Tensor) -> torch.Tensor:
    """Elementwise sum over ranks of a tensor that has the same shape on every rank."""
    if world_size() == 1:
        return values
    values = values.clone()
    dist.all_reduce(values)
    return values


def sum_of_numbers(numbers: Sequence[int]) -> list[int]:
    """Elementwise sum over ranks of Python integers.

    The call waits for the other ranks but not for the GPU.
    """
    if world_size() == 1:
        return list(numbers)
    total = torch.tensor(numbers, dtype=torch.long)
    dist.all_reduce(total, group=_Hosts.group)
    return total.tolist()


def broadcast_from_main(tensors: Iterable[torch.Tensor]) -> None:
    """Overwrite the tensors of every rank with those of rank 0, in place."""
    if world_size() > 1:
        for tensor in tensors:
            dist.broadcast(tensor, src=0)


def gather_rows(rows: torch.Tensor) -> torch.Tensor:
    """Concatenate [N, ...] over ranks in rank order -> [ranks * N, ...].

    Gradients flow only into the rows of this rank.
    """
    if world_size() == 1:
        return rows
    parts = [torch.empty_like(rows) for _ in range(world_size())]
    dist.all_gather(parts, rows.contiguous().detach())
    parts[rank()] = rows
    return torch.cat(parts)


def gather_objects(value: Any) -> list[Any]:
    """Return the values of all ranks, in rank order, on every rank."""
    if world_size() == 1:
        return [value]
    values: list[Any] = [None] * world_size()
    dist.all_gather_object(values, value)
    return values


def from_main(value: Any, group: Any = None) -> Any:
    """Return the value of rank 0 on every rank. group: the process group; None = the default."""
    if world_size() == 1:
        return value
    values = [value]
    dist.broadcast_object_list(values, src=0, group=group)
    return values[0]


def main_first(action: Callable[[], T]) -> T:
    """Call `action()` on rank 0 first, then on all other ranks, and return its result.

    So rank 0 downloads a file and the others find it. An exception of rank 0 is raised on every
    rank.
    """
    results: list[T] = []
    problem = None
    if is_main():
        try:
            results.append(action())
        except Exception as error:  # raised below on every rank
            problem = error
    problem = from_main(problem, _Hosts.patient)
    if problem is not None:
        raise problem
    return results[0] if results else action()


def on_main(action: Callable[[], Any]) -> None:
    """Call `action()` on rank 0 while the other ranks wait.

    A `UserError` of rank 0 is raised on every rank, so that no rank waits for ever.
    """
    problem = None
    if is_main():
        try:
            action()
        except UserError as error:
            problem = str(error)
    problem = from_main(problem, _Hosts.patient)
    if problem is not None:
        raise UserError(problem)
