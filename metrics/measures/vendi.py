"""Vendi score: the effective number of different pictures in a set (Friedman and Dieng 2023).

It is exp(-sum_i l_i log l_i), where l_i are the eigenvalues of K / n and K [n, n] holds the cosines
of all pairs of feature vectors. It is 1 for equal pictures and n for pictures that are orthogonal
in features. It rises with n, so real and generated pictures are compared at an equal number.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from metrics.arithmetic.pairwise import unit_vectors
from metrics.measures.base import Evaluation, Fields, Measure, Session


@dataclass(frozen=True, kw_only=True)
class Vendi(Measure):
    """Vendi score of the generated pictures, divided by that of equally many real pictures.

    It sees missing variety and not missing quality: read it beside a distance.
    """

    kind = "vendi"
    better = "high"
    detector: str

    def score(self, session: Session, evaluation: Evaluation) -> Fields:
        """`parts`: both scores, whose ratio is `value`.

        The larger set is reduced to the size of the smaller one by a seeded draw.
        """
        real, generated = session.vectors(evaluation)
        count = min(len(real), len(generated))
        parts = {
            name: vendi_score(np.random.default_rng(0).permutation(vectors)[:count])
            for name, vectors in (("generated", generated), ("real", real))
        }
        value = parts["generated"] / parts["real"]
        return {"value": value, "parts": parts, "num_real": len(real), "num_compared": count}


def vendi_score(vectors: np.ndarray) -> float:
    """The Vendi score of feature vectors [n, d] with the cosine kernel, from 1 to min(n, d).

    X X^T / n and X^T X / n have the same eigenvalues but for zeros, so the smaller one is used.
    """
    x = unit_vectors(vectors)
    products = x @ x.T if len(x) <= x.shape[1] else x.T @ x
    eigenvalues = np.linalg.eigvalsh(products / len(x))
    eigenvalues = eigenvalues[eigenvalues > 0]  # zeros may be slightly negative by rounding
    return float(np.exp(-(eigenvalues * np.log(eigenvalues)).sum()))
