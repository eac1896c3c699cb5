"""A stand-in for CUDA graphs on a CPU."""

from __future__ import annotations

import contextlib

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class _Recorder(TorchDispatchMode):
    def __init__(self):
        super().__init__()
        self.calls = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        assert func is not torch.ops.aten._local_scalar_dense.default, "reads a number"
        result = func(*args, **(kwargs or {}))
        self.calls.append((func, args, kwargs or {}, result))
        return result


class Tape:
    """`training.step_graph.Capture` that records the operators of PyTorch and their tensors.

    As with a CUDA graph, a replay runs no Python code of the step and uses the addresses of the
    capture. A capture also computes, so the first replay after it does nothing. `captures` and
    `replays` count both.
    """

    def __init__(self):
        self.captures = self.replays = 0

    def stream(self):
        return contextlib.nullcontext()

    def capture(self, work):
        with _Recorder() as recorder:
            results = work()
        self.captures += 1
        computed = [True]

        @torch.no_grad()
        def replay():
            self.replays += 1
            if computed:
                computed.clear()
                return
            for func, args, kwargs, result in recorder.calls:
                for old, new in zip(
                    tree_leaves(result), tree_leaves(func(*args, **kwargs)), strict=True
                ):
                    if isinstance(old, torch.Tensor) and not _share_memory(old, new):
                        old.copy_(new)

        return results, replay


def _share_memory(a, b):
    return a.untyped_storage().data_ptr() == b.untyped_storage().data_ptr()
