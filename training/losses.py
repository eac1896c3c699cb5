"""The loss terms of EIDGAN (section 7 of docs/paper_map.md) as pure functions of tensors.

Every loss is a scalar [], the mean over the given samples.

Shapes: N batch, P positions of a patch discriminator, C feature width. Logits are [N] or [N, P].
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch.nn import functional

from torch_utils.distributed import gather_rows, world_size


def logistic_real(logits: torch.Tensor) -> torch.Tensor:
    """-log sigmoid(logit): the term of D for real pictures, and of G for fakes.

    That is the non-saturating loss of Goodfellow et al. 2014.
    """
    return functional.softplus(-logits).mean()


def logistic_fake(logits: torch.Tensor) -> torch.Tensor:
    """-log(1 - sigmoid(logit)): the term of D for fakes and for mismatched texts."""
    return functional.softplus(logits).mean()


def hinge_real(logits: torch.Tensor) -> torch.Tensor:
    """max(0, 1 - logit): the term of D for real pictures in the hinge loss (Lim and Ye 2017)."""
    return functional.relu(1 - logits).mean()


def hinge_fake(logits: torch.Tensor) -> torch.Tensor:
    """max(0, 1 + logit): the term of D for fakes and for mismatched texts in the hinge loss."""
    return functional.relu(1 + logits).mean()


def hinge_generator(logits: torch.Tensor) -> torch.Tensor:
    """-logit: the term of G for fakes in the hinge loss."""
    return -logits.mean()


class AdversarialTerms(NamedTuple):
    """The terms of an adversarial loss, each a function of logits [N] or [N, P] -> [].

    real: the term of D for real pictures. fake: the term of D for fakes. generator: the term of G.
    """

    real: Callable[[torch.Tensor], torch.Tensor]
    fake: Callable[[torch.Tensor], torch.Tensor]
    generator: Callable[[torch.Tensor], torch.Tensor]


ADVERSARIAL = {
    "logistic": AdversarialTerms(logistic_real, logistic_fake, logistic_real),
    "hinge": AdversarialTerms(hinge_real, hinge_fake, hinge_generator),
}


def r1_penalty(logits: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
    """R1 (Mescheder et al. 2018): mean squared norm of the gradient of D's logits in the images.

    The caller multiplies it by gamma / 2.

    logits: of D for `images`. images: [N, 3, H, W], the leaf tensor that D read, with
    requires_grad. The result is differentiable in D's parameters.
    """
    (gradient,) = torch.autograd.grad(logits.sum(), images, create_graph=True)
    return gradient.square().sum(dim=(1, 2, 3)).mean()


def matching_aware_penalty(
    logits: torch.Tensor, images: torch.Tensor, sentence: torch.Tensor
) -> torch.Tensor:
    """MA-GP (Tao et al. 2022): mean of (|grad_x D| + |grad_s D|)^6 over real pictures x.

    logits: of D for the pictures with their matching texts. images: x [N, 3, H, W]. sentence: s
    [N, d_s]. Both are leaf tensors with requires_grad. The paper's weight is 2.
    """
    in_images, in_sentence = torch.autograd.grad(
        logits.sum(), (images, sentence), create_graph=True
    )
    norm = in_images.flatten(1).norm(dim=1) + in_sentence.norm(dim=1)
    return norm.pow(6).mean()


def path_lengths(images: torch.Tensor, tokens: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
    """|J^T y| of StyleGAN2's path length regularisation for each sample -> [N].

    images: [N, 3, H, W], computed from `tokens` [N, k, d]. noise: standard normal, shaped like
    `images`; y = noise / sqrt(H W).

    The norm sums over the width d of a code and averages over the k codes. StyleGAN2 gives each
    layer its own copy of the code and averages over the copies. Here all layers share one code, so
    their gradients add up. So with k = 1 the squared length is about (number of affine layers)
    times that of StyleGAN2. Divide a published weight by that number.
    """
    scaled = noise / math.sqrt(images.shape[2] * images.shape[3])
    (gradient,) = torch.autograd.grad((images * scaled).sum(), tokens, create_graph=True)
    return gradient.float().square().sum(dim=2).mean(dim=1).sqrt()


def feature_distance(
    fakes: Sequence[torch.Tensor], reals: Sequence[torch.Tensor], rows: slice
) -> torch.Tensor:
    """Mean squared difference of feature maps, each in units of the variance of the real maps.

    fakes, reals: what D senses in N pictures, a tensor [N, C, S, S] for each scale; `reals` come
    without a gradient. rows: the rows to compare. Returns the mean over the scales and these rows,
    times the share of these rows: their weight in a batch does not depend on how it is split.
    """
    terms = [
        (fake[rows] - real[rows]).square().mean(dim=(1, 2, 3)).sum() / real.var()
        for fake, real in zip(fakes, [x.float() for x in reals], strict=True)
    ]
    return torch.stack(terms).mean() / len(reals[0])


def info_nce(candidates: torch.Tensor, anchors: torch.Tensor, temperature: float) -> torch.Tensor:
    """InfoNCE: -log softmax_j(cos(candidate_j, anchor_i) / tau) at j = i, averaged over anchors i.

    candidates, anchors: [N, C]; row i of one matches row i of the other. temperature: tau.

    ConD (eq. 9): candidates are features f_D(x) of D, anchors CLIP image features of the same x.
    ConG (eq. 10): candidates are CLIP image features of fakes, anchors the sentence features of
    their texts. The paper prints both equations without the logarithm; this is the log-softmax.

    The negatives are the rows of all ranks. Each rank computes the same loss of all rows, but only
    its own rows get a gradient. The caller averages over ranks, so the gradient is multiplied by
    their number.
    """
    # Without autocast: the factor 1 / tau would enlarge the rounding errors of bf16.
    with torch.autocast(candidates.device.type, enabled=False):
        candidates = gather_rows(functional.normalize(candidates.float(), dim=1))
        anchors = gather_rows(functional.normalize(anchors.float(), dim=1))
        logits = anchors @ candidates.T / temperature
        target = torch.arange(len(logits), device=logits.device)
        loss = functional.cross_entropy(logits, target)
    # The value of the loss, with a gradient that is world_size() times as large.
    return loss * world_size() - loss.detach() * (world_size() - 1)
