"""The imports of the commands, for the process from which `forked.py` forks them."""

import gc
import os

import scipy.linalg  # noqa: F401
import timm  # noqa: F401
import torch.utils.tensorboard  # noqa: F401

import metrics.features.detectors.lite2
import metrics.runner  # noqa: F401
import training.launch  # noqa: F401
from networks.text_encoders import load_encoder

load_encoder("small")  # imports the modules of the encoder
os.fsync = lambda fd: None  # as in tests/conftest.py
# A garbage collection in a child would write to the shared memory, and so copy it.
gc.freeze()
