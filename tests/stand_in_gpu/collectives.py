"""NCCL's part under torchrun: gloo computes, by NCCL's rules.

Tensors lie on the GPU, Python objects travel through it, and no two ranks share one.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist

from tests.stand_in_gpu.tensor import StandInTensor


class _Gloo:
    """The group that computes; the index of every rank's GPU, None before the first collective."""

    group: Any = None  # a `ProcessGroup`
    gpus: list[int] | None = None


def install() -> None:
    begin = dist.init_process_group

    def init_process_group(backend: str, **options: Any) -> None:
        if backend != "nccl":
            begin(backend, **options)
            return
        begin("cuda:gloo", **options)  # serves CUDA tensors only, as NCCL does
        _Gloo.group, _Gloo.gpus = dist.new_group(backend="gloo"), None

    setattr(dist, "init_process_group", init_process_group)  # noqa: B010  else mypy compares types


def run(operator: torch._ops.OpOverload, args: tuple, kwargs: dict[str, Any]) -> Any:
    """A collective on the CPU tensors behind its arguments.

    Raises `DistBackendError` where two ranks use one GPU, or where a rank changes to another.
    """
    used: set[int] = set()

    def plain(value: Any) -> Any:
        if isinstance(value, StandInTensor):
            used.add(value.device.index)
            return value.cpu_tensor
        if isinstance(value, torch.ScriptObject) and "ProcessGroup" in str(value._type()):
            return _Gloo.group.boxed()
        return [plain(item) for item in value] if isinstance(value, list) else value

    plain_args = [plain(value) for value in args]
    plain_kwargs = {name: plain(value) for name, value in kwargs.items()}
    if _Gloo.gpus is None:
        _Gloo.gpus = [0] * dist.get_world_size()
        dist.all_gather_object(_Gloo.gpus, min(used), group=_Gloo.group)
    if len(set(_Gloo.gpus)) < len(_Gloo.gpus):
        raise dist.DistBackendError(f"Duplicate GPU detected: the ranks use {_Gloo.gpus}")
    if used != {_Gloo.gpus[dist.get_rank()]}:
        raise dist.DistBackendError(f"rank {dist.get_rank()} began on another GPU than {used}")
    return operator(*plain_args, **plain_kwargs)
