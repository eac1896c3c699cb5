"""The loss terms of EIDGAN (section 7 of its description in docs/paper_map.md) as pure functions of tensors.

Each returns a scalar that is a mean over the samples it is given. Shapes: N batch, C feature width.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch.nn import functional

from torch_utils.distributed import gather_rows, world_size


def logistic_real(logits: torch.Tensor) -> torch.Tensor:
    """-log sigmoid(logit): what D pays for real pictures and G for its fakes (Goodfellow et al. 2014, non-saturating)."""
    return functional.softplus(-logits).mean()


def logistic_fake(logits: torch.Tensor) -> torch.Tensor:
    """-log(1 - sigmoid(logit)): what D pays for fakes and for mismatched texts."""
    return functional.softplus(logits).mean()


def hinge_real(logits: torch.Tensor) -> torch.Tensor:
    """max(0, 1 - logit): what D pays for real pictures under the hinge loss (Lim and Ye 2017); G
    pays -logit.
    """
    return functional.relu(1 - logits).mean()


def hinge_fake(logits: torch.Tensor) -> torch.Tensor:
    """max(0, 1 + logit): what D pays for fakes and for mismatched texts under the hinge loss."""
    return functional.relu(1 + logits).mean()


def hinge_generator(logits: torch.Tensor) -> torch.Tensor:
    """-logit: what G pays for its fakes under the hinge loss."""
    return -logits.mean()


class AdversarialTerms(NamedTuple):
    """What D pays for logits of real pictures and of fakes, and what G pays for those of its fakes;
    [N] or [N, P] -> [].
    """

    real: Callable[[torch.Tensor], torch.Tensor]
    fake: Callable[[torch.Tensor], torch.Tensor]
    generator: Callable[[torch.Tensor], torch.Tensor]


ADVERSARIAL = {
    "logistic": AdversarialTerms(logistic_real, logistic_fake, logistic_real),
    "hinge": AdversarialTerms(hinge_real, hinge_fake, hinge_generator),
}


def r1_penalty(logits: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
    """R1 (Mescheder et al. 2018): mean squared norm of the gradient of D's logits in the images; multiply by gamma / 2.

    images must be the leaf that D read, with requires_grad; the result is differentiable in D's parameters.
    """
    (gradient,) = torch.autograd.grad(logits.sum(), images, create_graph=True)
    return gradient.square().sum(dim=(1, 2, 3)).mean()


def matching_aware_penalty(
    logits: torch.Tensor, images: torch.Tensor, sentence: torch.Tensor
) -> torch.Tensor:
    """MA-GP (Tao et al. 2022): mean of (|grad_x D| + |grad_s D|)^6 at real pictures with their own text; times 2 there."""
    in_images, in_sentence = torch.autograd.grad(
        logits.sum(), (images, sentence), create_graph=True
    )
    norm = in_images.flatten(1).norm(dim=1) + in_sentence.norm(dim=1)
    return norm.pow(6).mean()


def path_lengths(images: torch.Tensor, tokens: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
    """|J^T y| of StyleGAN2's path length regularisation, per sample.  # [N]

    noise: standard normal, shaped like images; y = noise / sqrt(H W). The norm sums over a code's width and averages
    over the k codes. One code drives every affine here, so its gradient adds theirs up; StyleGAN2 averages over a copy of the code
    for each layer: with k = 1 the squared length is about (number of affines) times theirs, and a published weight is to be divided by it.
    """
    scaled = noise / math.sqrt(images.shape[2] * images.shape[3])
    (gradient,) = torch.autograd.grad((images * scaled).sum(), tokens, create_graph=True)
    return gradient.float().square().sum(dim=2).mean(dim=1).sqrt()


def info_nce(candidates: torch.Tensor, anchors: torch.Tensor, temperature: float) -> torch.Tensor:
    """-log softmax_j(cos(candidate_j, anchor_i) / tau) at j = i, averaged over anchors; negatives from all ranks.

    candidates, anchors [N, C]. ConD (eq. 9): candidates f_D(x), anchors CLIP image features of the same x.
    ConG (eq. 10): candidates CLIP image features of fakes, anchors their sentence features. The paper prints both
    without the logarithm; this is the proper log-softmax. Every rank computes the loss of the whole batch but its
    gradient reaches the own rows only; the factor world_size makes the sum over ranks, weighted by each rank's share
    of the batch, the gradient of that loss.
    """
    with torch.autocast(
        candidates.device.type, enabled=False
    ):  # 1 / tau would enlarge the rounding of bf16
        candidates = gather_rows(functional.normalize(candidates.float(), dim=1))
        anchors = gather_rows(functional.normalize(anchors.float(), dim=1))
        logits = anchors @ candidates.T / temperature
        target = torch.arange(len(logits), device=logits.device)
        loss = functional.cross_entropy(logits, target)
    return loss * world_size() - loss.detach() * (
        world_size() - 1
    )  # value of one loss, gradient of world_size
