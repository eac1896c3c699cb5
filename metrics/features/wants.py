"""What a measure needs of the features of a set of pictures. This module imports no torch."""

from __future__ import annotations

from typing import Literal

Wants = frozenset[Literal["vectors", "moments"]]
"""What is needed of one detector; the union of two needs is the need of both."""

VECTORS: Wants = frozenset({"vectors"})
"""The feature vector of each picture, [N, D]."""
MOMENTS: Wants = frozenset({"moments"})
"""Only the mean [D] and the covariance [D, D] of all feature vectors."""
