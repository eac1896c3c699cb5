"""What an operator on stand-in tensors does: the devices are checked, then the CPU computes.

The rules are those of CUDA kernels. All tensors lie on one device, except that the CPU may hold
numbers without dimensions for elementwise operators, and indices. Random numbers come from the
device's generator. Convolutions round float32 to TF32 where PyTorch's settings allow it, as GPUs
from Ampere on do. A copy to the CPU must wait for the GPU.
"""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import torch
from torch._ops import OpOverload
from torch.utils._mode_utils import no_dispatch

from tests.stand_in_gpu import collectives
from tests.stand_in_gpu.tensor import StandInTensor

aten = torch.ops.aten
CPU = torch.device("cpu")
COPIES = {"aten::copy_", "aten::_to_copy", "aten::_foreach_copy_"}
INDEXING = {
    "aten::index",
    "aten::index_put",
    "aten::index_put_",
    "aten::_index_put_impl_",
    "aten::_unsafe_index",
}
FILLING = {"aten::fill", "aten::fill_", "aten::masked_fill", "aten::masked_fill_"}
# How many of the first arguments go through tensor cores.
CONVOLUTIONS = {aten.convolution.default: 2, aten.convolution_backward.default: 3}
# A wrapper cannot carry the marks by which PyTorch puts off a conjugate or a negative.
AT_ONCE = {
    aten._conj.default: aten._conj_physical.default,
    aten._neg_view.default: aten.neg.default,
}


class Facts(NamedTuple):
    """What an operator's schema says. returned: for each result the position of the argument that
    it is, None for a new tensor. numbers: whether the CPU may hold numbers without dimensions."""

    names: tuple[str, ...]
    returned: tuple[int | None, ...]
    draws: bool
    copies: bool
    indexes: bool
    numbers: bool


@cache
def facts_of(operator: OpOverload) -> Facts:
    schema = operator._schema

    def aliases(one) -> set[str]:
        return one.alias_info.before_set if one.alias_info and one.alias_info.is_write else set()

    written = {
        alias: position
        for position, argument in enumerate(schema.arguments)
        for alias in aliases(argument)
    }
    names = tuple(argument.name for argument in schema.arguments)
    return Facts(
        names=names,
        returned=tuple(
            next((written[alias] for alias in aliases(result)), None) for result in schema.returns
        ),
        draws="generator" in names,
        copies=schema.name in COPIES,
        indexes=schema.name in INDEXING,
        numbers=(
            torch.Tag.pointwise in operator.tags
            or schema.name in FILLING | INDEXING
            or schema.name.startswith("aten::_foreach_")
        ),
    )


def run(operator: OpOverload, args: tuple, kwargs: dict[str, Any]) -> Any:
    """The operator's result on its arguments' device, or on the one that `device` names."""
    if operator.namespace == "c10d":
        return collectives.run(operator, args, kwargs)
    facts = facts_of(operator)
    devices: list[torch.device] = []
    on_cpu: list[torch.Tensor] = []

    def plain(value: Any) -> Any:
        kind = type(value)
        if kind is StandInTensor:
            devices.append(value.device)
            return value.cpu_tensor
        if kind is list or kind is tuple:
            return kind(map(plain, value))
        if isinstance(value, torch.Tensor):
            on_cpu.append(value)
        return value

    plain_args = tuple(map(plain, args))
    plain_kwargs = {name: plain(value) for name, value in kwargs.items()}
    device = devices[0]
    if kwargs.get("device") is not None:
        device, plain_kwargs["device"] = kwargs["device"], CPU
    if facts.copies:
        _check_copy(operator, args, kwargs, device)
    else:
        _check_devices(operator, facts, args, devices, on_cpu)
    if facts.draws:
        plain_kwargs["generator"] = _generator(device, kwargs.get("generator"))
    if operator in CONVOLUTIONS and torch.backends.cudnn.conv.fp32_precision == "tf32":
        count = CONVOLUTIONS[operator]
        plain_args = (*map(_tf32, plain_args[:count]), *plain_args[count:])
    result = AT_ONCE.get(operator, operator)(*plain_args, **plain_kwargs)
    return _returned(facts, args, kwargs, result, device)


def _returned(
    facts: Facts, args: tuple, kwargs: dict[str, Any], result: Any, device: torch.device
) -> Any:
    """Arguments that were written to as they came in; all else wrapped."""

    def one(position: int | None, value: Any) -> Any:
        if position is None:
            return wrapped(value, device)
        argument = args[position] if position < len(args) else kwargs[facts.names[position]]
        if type(argument) is StandInTensor:
            _follow(argument)
        return argument

    if len(facts.returned) == 1:
        return one(facts.returned[0], result)
    return tuple(map(one, facts.returned, result)) if facts.returned else result


def _follow(tensor: StandInTensor) -> None:
    """Give the wrapper the shape and strides that an operator gave to its CPU tensor."""
    inner = tensor.cpu_tensor
    if tensor.shape == inner.shape and tensor.stride() == inner.stride():
        return
    before = torch._C._meta_in_tls_dispatch_include()
    with no_dispatch():  # the kernel of the meta device changes a shape and touches no memory
        torch._C._set_meta_in_tls_dispatch_include(True)
        try:
            aten.as_strided_.default(tensor, inner.size(), inner.stride(), inner.storage_offset())
        finally:
            torch._C._set_meta_in_tls_dispatch_include(before)


def wrapped(value: Any, device: torch.device) -> Any:
    """CPU tensors, also in lists, as tensors of `device`; what is no tensor as it is."""
    if isinstance(value, torch.Tensor):
        return value if device.type == "cpu" else StandInTensor(value, with_index(device))
    if isinstance(value, (list, tuple)):
        return type(value)(wrapped(item, device) for item in value)
    return value


def with_index(device: torch.device) -> torch.device:
    """'cuda' means the current device. Raises `RuntimeError` for a device that is not there."""
    if device.index is None:
        return torch.device("cuda", torch.cuda.current_device())
    if device.index >= torch.cuda.device_count():
        raise RuntimeError(f"CUDA error: invalid device ordinal {device.index}")
    return device


def _check_devices(
    operator: OpOverload,
    facts: Facts,
    args: tuple,
    devices: list[torch.device],
    on_cpu: list[torch.Tensor],
) -> None:
    indices = args[1] if facts.indexes else ()

    def allowed(tensor: torch.Tensor) -> bool:
        number = facts.numbers and tensor.dim() == 0 and tensor is not args[0]
        return number or any(tensor is index for index in indices)

    found = {*devices, *(tensor.device for tensor in on_cpu if not allowed(tensor))}
    if len(found) > 1:
        raise RuntimeError(
            "Expected all tensors to be on the same device, but found at least two "
            f"devices, {' and '.join(sorted(map(str, found)))}! ({operator})"
        )


def _check_copy(
    operator: OpOverload, args: tuple, kwargs: dict[str, Any], device: torch.device
) -> None:
    in_place = operator is aten.copy_.default
    to_cpu = type(args[0]) is not StandInTensor if in_place else device.type == "cpu"
    if to_cpu and (kwargs.get("non_blocking") or in_place and args[2:] == (True,)):
        raise RuntimeError(
            "a copy from the GPU to the CPU with non_blocking=True may be read before it is there"
        )


def _generator(device: torch.device, given: torch.Generator | None) -> torch.Generator:
    if given is not None:
        raise RuntimeError(
            f"Expected a 'cuda' device type for generator but found '{given.device.type}'"
        )
    return torch.cuda.default_generators[with_index(device).index]


def _tf32(value: torch.Tensor) -> torch.Tensor:
    """Float32 with the 10 bits of TF32's mantissa, rounded to nearest."""
    if value.dtype != torch.float32:
        return value
    return ((value.view(torch.int32) + 0x1000) & ~0x1FFF).view(torch.float32)
