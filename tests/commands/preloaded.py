"""What commands import, imported in the process that `forked.py` forks them from."""

import gc

import scipy.linalg  # noqa: F401
import timm  # noqa: F401
import torch.utils.tensorboard  # noqa: F401

import metrics.features.detectors.lite2
import metrics.runner  # noqa: F401
import training.launch  # noqa: F401
from networks.text_encoders import load_encoder

load_encoder("small")  # for the modules that it imports
gc.freeze()  # a collection in a child would write to everything it shares, and so copy it
