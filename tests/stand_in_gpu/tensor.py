"""A tensor that is on a CUDA device for all who look at it, and keeps its numbers on the CPU."""

from __future__ import annotations

from typing import Any

import torch

# Bytes of the wrapper's storage, which does not exist; the CPU tensor's own storage has its limits.
BOUNDLESS = 1 << 60


class StandInTensor(torch.Tensor):
    """`cpu_tensor` holds the numbers. Shape, strides, dtype and device belong to a wrapper, so that
    PyTorch's C++ parts, autograd and autocast among them, see a CUDA tensor. Below them every
    operator arrives in `dispatch.run`.
    """

    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, cpu_tensor: torch.Tensor, device: torch.device) -> StandInTensor:
        return torch.Tensor._make_wrapper_subclass(
            cls,
            cpu_tensor.size(),
            strides=cpu_tensor.stride(),
            storage_offset=cpu_tensor.storage_offset(),
            dtype=cpu_tensor.dtype,
            layout=cpu_tensor.layout,
            device=device,
            storage_size=BOUNDLESS,
        )

    def __init__(self, cpu_tensor: torch.Tensor, device: torch.device) -> None:
        self.cpu_tensor = cpu_tensor

    @classmethod
    def __torch_dispatch__(cls, operator, types, args=(), kwargs=None):
        from tests.stand_in_gpu.dispatch import run

        return run(operator, args, kwargs or {})

    # `nn.Module.to` keeps a parameter's Python object where it finds these two methods.
    def __tensor_flatten__(self) -> tuple[list[str], torch.device]:
        return ["cpu_tensor"], self.device

    @staticmethod
    def __tensor_unflatten__(parts, device: torch.device, size, stride) -> StandInTensor:
        return StandInTensor(parts["cpu_tensor"], device)

    def __deepcopy__(self, memo: dict[int, Any]) -> StandInTensor:
        with torch.no_grad():
            copy = self.detach().clone().requires_grad_(self.requires_grad)
        if getattr(self, "_is_param", False):
            copy._is_param = True
        return memo.setdefault(id(self), copy)

    def __reduce_ex__(self, protocol):
        """Saved with its device: what reads it without `map_location` has a CUDA tensor again."""
        return torch._utils._rebuild_device_tensor_from_cpu_tensor, (
            self.detach().cpu(),
            self.dtype,
            str(self.device),
            self.requires_grad,
        )

    def __repr__(self, *, tensor_contents=None):
        return f"{self.device} {self.cpu_tensor!r}"

    def tolist(self) -> list:
        return self.detach().cpu().tolist()

    def numpy(self, **options):
        raise TypeError(
            f"can't convert {self.device} device type tensor to numpy. "
            "Use Tensor.cpu() to copy the tensor to host memory first."
        )

    def pin_memory(self, device=None):
        raise RuntimeError(f"cannot pin '{self.type()}' only dense CPU tensors can be pinned")

    @property
    def data(self) -> torch.Tensor:
        return self.detach()

    @data.setter
    def data(self, value: torch.Tensor) -> None:
        if type(value) is not StandInTensor:  # PyTorch would move the tensor to the CPU
            raise RuntimeError("a tensor of the stand-in GPU takes no .data from the CPU")
        torch.Tensor.data.__set__(self, value)  # the wrapper's shape, strides, dtype and device
        self.cpu_tensor = value.cpu_tensor
