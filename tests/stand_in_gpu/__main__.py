"""A stand-in for GPUs: a program believes in `cuda:0` and `cuda:1`, and the CPU computes.

    python tests/stand_in_gpu train.py --outdir runs/x --recipe debug --data DATA --device cuda
    torchrun --nproc-per-node 2 tests/stand_in_gpu train.py --outdir runs/x ... --device cuda

A tensor that the program puts on a GPU reports that device to Python and to PyTorch's C++ parts.
So these are the real ones: autograd with its thread for each GPU, autocast with CUDA's list of
operators, the fused Adam, `nn.Module.to`, page-locked memory and the loader's pinning thread,
checkpoints that remember the device, and the checks of arguments in `torch.cuda`.

Errors here as on a GPU: tensors of two devices in one operator, `.numpy()` of a GPU tensor, a
generator of another device, pinning a GPU tensor, a device that is not there, a collective on CPU
tensors, two ranks on one GPU, CUDA in a forked process. Where a GPU only gives wrong numbers: a
copy to the CPU that does not wait is an error, and float32 convolutions round to TF32 where
PyTorch's settings allow it.

What it cannot show: kernels (ours run as plain PyTorch; cuDNN, cuBLAS and NCCL do not run at all)
and their rounding, operators that PyTorch lacks on CUDA, memory that runs out, speed, waits for the
device, and streams that overtake each other.

STAND_IN_CAPABILITY=7.5 makes older GPUs than the default, 9.0.
"""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

# Where `python train.py` would start; the folder of this file would hide modules.
sys.path[0] = str(Path(__file__).resolve().parents[2])

from tests.stand_in_gpu.device import install  # noqa: E402

if __name__ == "__main__":
    del sys.argv[0]
    if not sys.argv:
        sys.exit("usage: python tests/stand_in_gpu SCRIPT.py [ARGUMENTS ...]")
    install()
    runpy.run_path(sys.argv[0], run_name="__main__")
