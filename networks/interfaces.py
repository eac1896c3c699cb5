"""The forms in which text, codes and pictures travel between networks; see docs/design.md.

Shapes: N batch, L words, k latent tokens, d_s sentence width, d_w word width, d latent width.
"""

from __future__ import annotations

import abc
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Protocol, runtime_checkable

import torch
from torch import nn
from torch.nn import functional

from dnnlib.errors import UserError
from networks.coordinates import View
from torch_utils.tensors import to_device


@dataclass(frozen=True)
class TextFeatures:
    """The only form in which text reaches a network.

    sentence: [N, d_s] float, the encoder's sentence embedding, not normalised.
    words:    [N, L, d_w] float, token features of the penultimate text layer.
    mask:     [N, L] bool, True on tokens up to and including end-of-text. Every row has at least one True.
    """

    sentence: torch.Tensor
    words: torch.Tensor
    mask: torch.Tensor

    def __len__(self) -> int:
        return self.sentence.shape[0]

    def __getitem__(self, rows: slice | torch.Tensor) -> TextFeatures:
        """A sub-batch; rows is a slice or an index tensor."""
        return TextFeatures(self.sentence[rows], self.words[rows], self.mask[rows])

    def to(self, device: torch.device | str) -> TextFeatures:
        return TextFeatures(*(to_device(getattr(self, f.name), device) for f in fields(self)))

    def repeat_interleave(self, times: int) -> TextFeatures:
        """Row i becomes rows i * times ... i * times + times - 1."""
        return TextFeatures(
            *(getattr(self, f.name).repeat_interleave(times, dim=0) for f in fields(self))
        )

    def perturbed(self, normal: torch.Tensor, noise: float) -> TextFeatures:
        """With noise on the sentences s: s' = |s| h / |h| with h = s / |s| + noise * normal /
        |normal|, the fixed perturbation of LAFITE (Zhou et al. 2022).

        normal: standard normal [N, d_s]. noise: length of the noise relative to the sentence.
        """
        length = self.sentence.norm(dim=1, keepdim=True)
        direction = functional.normalize(self.sentence, dim=1)
        direction = direction + noise * functional.normalize(normal, dim=1)
        return replace(self, sentence=length * functional.normalize(direction, dim=1))

    def roll(self, shift: int) -> TextFeatures:
        """Row i receives the text of row i - shift: a mismatched caption for every picture."""
        return TextFeatures(*(getattr(self, f.name).roll(shift, dims=0) for f in fields(self)))

    @staticmethod
    def cat(parts: Sequence[TextFeatures]) -> TextFeatures:
        """Concatenate batches; shorter word sequences are padded with masked zeros."""
        length = max(part.words.shape[1] for part in parts)

        def pad(x: torch.Tensor) -> torch.Tensor:
            missing = length - x.shape[1]
            return nn.functional.pad(x, (0, 0, 0, missing) if x.ndim == 3 else (0, missing))

        return TextFeatures(
            torch.cat([part.sentence for part in parts]),
            torch.cat([pad(part.words) for part in parts]),
            torch.cat([pad(part.mask) for part in parts]),
        )


@dataclass(frozen=True)
class Codes:
    """What the mapping network hands to synthesis.

    tokens:   [N, k, d] style codes (k = 1 for systems with a single style vector).
    sentence: [N, d_s] sentence embedding that bypasses the mapping network; [N, 0] without text.
    commitment: [N] weighted commitment loss of a vector quantiser in front, None without one.
    """

    tokens: torch.Tensor
    sentence: torch.Tensor
    commitment: torch.Tensor | None = None

    def __len__(self) -> int:
        return self.tokens.shape[0]

    def __getitem__(self, rows: slice | torch.Tensor) -> Codes:
        return Codes(
            self.tokens[rows],
            self.sentence[rows],
            None if self.commitment is None else self.commitment[rows],
        )


class ViewError(UserError):
    """A generator was asked for a view that it cannot produce (another size than its own, or outside the frame)."""


class Generator(nn.Module, abc.ABC):
    """Base of every generator.

    Subclasses implement `mapping`, `prepare` and `render`. `latent_shape` is the shape of one z: that of the style codes,
    unless a subclass sets another.
    The buffer `tokens_mean` [k, d] is the running mean of the style codes in training, a centre for truncation.
    `prepare` does the work whose cost does not grow with the number of pixels, once a view; `render` then makes
    any crop of it. That split is what sampling in tiles stands on: a tile equals the same pixels of the whole.
    """

    config: Any  # of the subclass; has sentence_dim and word_dim
    latent_shape: tuple[int, ...]
    tokens_mean: torch.Tensor

    def __init__(self, token_shape: tuple[int, int]) -> None:
        super().__init__()
        self.latent_shape = token_shape
        self.register_buffer("tokens_mean", torch.zeros(token_shape))

    @property
    def reads_text(self) -> bool:
        """Whether it is conditioned on text; an unconditional generator takes None in its place."""
        return bool(self.config.sentence_dim or self.config.word_dim)

    @staticmethod
    def require_text(text: TextFeatures | None) -> TextFeatures:
        """The text of a generator that is conditioned on it. Raises `ValueError` for None."""
        if text is None:
            raise ValueError("this generator is conditioned on text: pass TextFeatures")
        return text

    @abc.abstractmethod
    def mapping(self, z: torch.Tensor, text: TextFeatures | None) -> Codes:
        """z [N, *latent_shape] standard normal, text of N rows (None for an unconditional generator) -> codes."""

    @abc.abstractmethod
    def prepare(self, codes: Codes, view: View) -> Any:
        """Everything `render` needs for this view, for example the lines of a bi-line generator."""

    @abc.abstractmethod
    def render(self, prepared: Any, rows: slice, columns: slice) -> torch.Tensor:
        """Pixels [N, 3, len(rows), len(columns)] of a prepared view, in [-1, 1] up to overshoot."""

    def synthesis(self, codes: Codes, view: View) -> torch.Tensor:
        """The whole view at once: [N, 3, view.height, view.width], in [-1, 1] up to overshoot."""
        return self.render(self.prepare(codes, view), slice(0, view.height), slice(0, view.width))

    def condition(self, text: TextFeatures | None) -> TextFeatures | None:
        """What the discriminator is told of the text, without gradient: the text, or what a quantiser makes of it."""
        return text

    def end_step(self) -> dict[str, torch.Tensor]:
        """Once a training step, on every rank: what no optimiser moves (code books). Returns scalars to log by name."""
        return {}

    def forward(self, z: torch.Tensor, text: TextFeatures | None, view: View) -> torch.Tensor:
        return self.synthesis(self.mapping(z, text), view)


@dataclass(frozen=True)
class Verdict:
    """A discriminator's answer: logits (high = real) and features f_D [N, F] for ConD (None without
    that head).

    logits: [N], or [N, P] where a discriminator judges P positions of a picture one by one.
    """

    logits: torch.Tensor
    features: torch.Tensor | None


class Discriminator(nn.Module, abc.ABC):
    """Base of every discriminator: images [N, 3, R, R] in [-1, 1] and their text -> Verdict.

    `trunk` is everything that does not see the text, so one pass over a picture can be judged against several texts.
    It is `read(sense(images))`. No parameter takes part in `sense`, so what it returns stays valid
    while D learns: D reads it without gradient, and G after D's step with the gradient to the
    pictures.
    """

    def sense(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """[N, 3, R, R] -> the tensors that `read` takes: the pictures, or features of a frozen
        network.
        """
        return (images,)

    def read(self, sensed: tuple[torch.Tensor, ...]) -> Any:
        """What `sense` returned -> what `judge` takes."""
        return self.trunk(*sensed)

    @abc.abstractmethod
    def trunk(self, images: torch.Tensor) -> Any:
        """[N, 3, R, R] -> what `judge` takes: [N, C], or feature maps of several heads."""

    @abc.abstractmethod
    def judge(self, hidden: Any, text: TextFeatures | None) -> Verdict:
        """What `trunk` returned and N texts (None for an unconditional discriminator) -> Verdict."""

    def forward(self, images: torch.Tensor, text: TextFeatures | None) -> Verdict:
        return self.judge(self.trunk(images), text)


@runtime_checkable
class TextEncoder(Protocol):
    """A frozen text tower. `id` names model and weights; it is written into snapshots and feature caches."""

    id: str
    sentence_dim: int
    word_dim: int

    def encode_text(self, captions: Sequence[str]) -> TextFeatures:
        """Captions -> features on the encoder's device, float32, without gradient."""


@runtime_checkable
class ImageTextEncoder(TextEncoder, Protocol):
    """A frozen dual encoder: image and sentence embeddings share one space of `sentence_dim` dimensions."""

    def encode_image(self, images: torch.Tensor) -> torch.Tensor:
        """[N, 3, H, W] in [-1, 1], any size -> [N, sentence_dim], not normalised; differentiable in the images."""
