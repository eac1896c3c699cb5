"""Base classes of the networks, and the data that pass between them; see docs/design.md.

Shapes: N batch, L words, k latent tokens, d_s sentence width, d_w word width, d latent width.
"""

from __future__ import annotations

import abc
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, Protocol, cast, runtime_checkable

import torch
from torch import nn
from torch.nn import functional

from dnnlib.errors import UserError
from networks.coordinates import View
from torch_utils.tensors import to_device

if TYPE_CHECKING:
    from networks.patches import Patches


@dataclass(frozen=True)
class TextFeatures:
    """The features of N texts; all networks read text in this form.

    sentence: [N, d_s] float, the encoder's sentence embedding, not normalised.
    words:    [N, L, d_w] float, token features of the penultimate text layer.
    mask:     [N, L] bool, True on tokens up to and including end-of-text. Every row has at least
              one True.
    """

    sentence: torch.Tensor
    words: torch.Tensor
    mask: torch.Tensor

    def __len__(self) -> int:
        return self.sentence.shape[0]

    def __getitem__(self, rows: slice | torch.Tensor) -> TextFeatures:
        """The features of a sub-batch. rows: a slice or an index tensor."""
        return TextFeatures(self.sentence[rows], self.words[rows], self.mask[rows])

    def to(self, device: torch.device | str) -> TextFeatures:
        return TextFeatures(*(to_device(getattr(self, f.name), device) for f in fields(self)))

    def repeat_interleave(self, times: int) -> TextFeatures:
        """Repeat each row: row i becomes the rows from i * times to i * times + times - 1."""
        return TextFeatures(
            *(getattr(self, f.name).repeat_interleave(times, dim=0) for f in fields(self))
        )

    def padded(self, multiple: int) -> TextFeatures:
        """The same features with masked zeros up to the next multiple of that many tokens."""
        missing = -self.words.shape[1] % multiple
        return replace(
            self,
            words=functional.pad(self.words, (0, 0, 0, missing)),
            mask=functional.pad(self.mask, (0, missing)),
        )

    def perturbed(self, normal: torch.Tensor, noise: float) -> TextFeatures:
        """The same features with noise on the sentence embeddings s.

        This is the fixed perturbation of LAFITE (Zhou et al. 2022): s' = |s| h / |h| with
        h = s / |s| + noise * normal / |normal|.

        normal: [N, d_s], standard normal. noise: length of the noise relative to the sentence.
        """
        length = self.sentence.norm(dim=1, keepdim=True)
        direction = functional.normalize(self.sentence, dim=1)
        direction = direction + noise * functional.normalize(normal, dim=1)
        return replace(self, sentence=length * functional.normalize(direction, dim=1))

    def roll(self, shift: int) -> TextFeatures:
        """Row i receives the text of row i - shift, so that every picture has a wrong caption."""
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
    """The output of the mapping network and input of synthesis.

    tokens:     [N, k, d] style codes (k = 1 for systems with a single style vector).
    sentence:   [N, d_s] sentence embedding that bypasses the mapping network; [N, 0] without text.
    commitment: [N] weighted commitment loss of a vector quantiser of the text; None without one.
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


def codes_between(first: Codes, last: Codes, weight: float) -> Codes:
    """The codes at `weight` (0 to 1) on the straight line from `first` to `last`.

    Style codes and bypassing sentences are both interpolated.
    """
    tokens = torch.lerp(first.tokens, last.tokens, weight)
    return Codes(tokens, torch.lerp(first.sentence, last.sentence, weight))


class ViewError(UserError):
    """A view that the generator cannot draw, such as another size or a box outside the frame."""


class Generator(nn.Module, abc.ABC):
    """Base of every generator.

    Subclasses implement `mapping`, `prepare` and `render`. `prepare` does the work whose cost does
    not grow with the number of pixels, once for each view. `render` then draws any crop of the
    view. This is what allows sampling in tiles: a tile equals the same pixels of the whole picture.

    latent_shape: shape of one latent z; that of the style codes unless a subclass sets another.
    tokens_mean: buffer [k, d], the running mean of the style codes in training. It is the centre of
        the truncation.
    takes_patches: whether `prepare` also takes `networks.patches.Patches`, another box for each
        sample.
    """

    config: Any  # each subclass has its config class, with sentence_dim and word_dim
    latent_shape: tuple[int, ...]
    tokens_mean: torch.Tensor
    takes_patches: bool = False

    def __init__(self, token_shape: tuple[int, int]) -> None:
        super().__init__()
        self.latent_shape = token_shape
        self.register_buffer("tokens_mean", torch.zeros(token_shape))

    @property
    def samples(self) -> int:
        """Points a side of which each pixel is the mean: 1 for systems without this field."""
        return getattr(self.config, "samples", 1)

    def use_samples(self, samples: int | None) -> None:
        """Draw each pixel as the mean of samples x samples points from now on; None = as before.

        Raises `UserError` for systems that draw one point a pixel.
        """
        if samples is not None:
            self.config = self.config.with_samples(samples)

    @property
    def reads_text(self) -> bool:
        """Whether the generator is conditioned on text. Otherwise its `text` argument is None."""
        return bool(self.config.sentence_dim or self.config.word_dim)

    @staticmethod
    def require_text(text: TextFeatures | None) -> TextFeatures:
        """Return `text`, which a generator with text needs. Raises `ValueError` for None."""
        if text is None:
            raise ValueError("this generator is conditioned on text: pass TextFeatures")
        return text

    @abc.abstractmethod
    def mapping(self, z: torch.Tensor, text: TextFeatures | None) -> Codes:
        """z [N, *latent_shape], standard normal, and N texts -> codes.

        text: None for an unconditional generator.
        """

    @abc.abstractmethod
    def prepare(self, codes: Codes, view: View) -> Any:
        """Compute what `render` needs for this view, for example the lines of a bi-line generator.

        Raises `ViewError` for a view that the generator cannot draw.
        """

    @abc.abstractmethod
    def render(self, prepared: Any, rows: slice, columns: slice) -> torch.Tensor:
        """Draw the pixels [N, 3, rows, columns] of a crop of a prepared view.

        Values are in [-1, 1] up to overshoot.
        """

    def synthesis(self, codes: Codes, view: View) -> torch.Tensor:
        """Draw the whole view: [N, 3, view.height, view.width] in [-1, 1] up to overshoot."""
        return self.render(self.prepare(codes, view), slice(0, view.height), slice(0, view.width))

    def condition(self, text: TextFeatures | None) -> TextFeatures | None:
        """The text features that the discriminator reads, without gradient.

        These are the features of `text`, or quantised features in systems with a quantiser.
        """
        return text

    def end_step(self) -> dict[str, torch.Tensor]:
        """Update state that no optimiser updates, such as code books.

        Training calls it once for each step, on every rank. Returns scalars to log, by name.
        """
        return {}

    def draw_patches(self, codes: Codes, patches: Patches) -> torch.Tensor:
        """Draw one patch of each sample: [N, 3, side, side] in [-1, 1] up to overshoot.

        One by one, unless `prepare` takes the patches of all samples at once (`takes_patches`).
        """
        if self.takes_patches:
            return self.synthesis(codes, cast("View", patches))
        views = enumerate(patches.views())
        return torch.cat([self.synthesis(codes[i : i + 1], view) for i, view in views])

    def forward(self, z: torch.Tensor, text: TextFeatures | None, view: View) -> torch.Tensor:
        return self.synthesis(self.mapping(z, text), view)


@dataclass(frozen=True)
class Verdict:
    """The output of a discriminator.

    logits:   [N], high for real pictures; [N, P] where a discriminator gives a logit for each of P
              positions of a picture.
    features: [N, F], the features f_D for ConD; None without that head.
    """

    logits: torch.Tensor
    features: torch.Tensor | None


class Discriminator(nn.Module, abc.ABC):
    """Base of every discriminator D: images [N, 3, R, R] in [-1, 1] and N texts -> Verdict.

    `trunk` does not read the text, so `judge` can compare the result of one `trunk` with several
    texts. `trunk(images)` is `read(sense(images))`. `sense` has no trained parameters, so its
    result stays valid after an optimiser step of D: the step of D uses it without gradient, and the
    step of G that follows uses it again with the gradient to the images.
    """

    def sense(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Images [N, 3, R, R] -> the input of `read`: images, or features of a frozen network."""
        return (images,)

    def read(self, sensed: tuple[torch.Tensor, ...]) -> Any:
        """The result of `sense` -> the input of `judge`."""
        return self.trunk(*sensed)

    @abc.abstractmethod
    def trunk(self, images: torch.Tensor) -> Any:
        """Images [N, 3, R, R] -> the input of `judge`: [N, C], or feature maps of several heads."""

    @abc.abstractmethod
    def judge(self, hidden: Any, text: TextFeatures | None) -> Verdict:
        """The result of `trunk` and N texts -> Verdict.

        text: None for an unconditional discriminator.
        """

    def forward(self, images: torch.Tensor, text: TextFeatures | None) -> Verdict:
        return self.judge(self.trunk(images), text)


@runtime_checkable
class TextEncoder(Protocol):
    """A frozen text encoder.

    id: identifies the model and its weights; it is stored in snapshots and feature caches.
    sentence_dim, word_dim: d_s and d_w of `TextFeatures`.
    """

    id: str
    sentence_dim: int
    word_dim: int

    def encode_text(self, captions: Sequence[str]) -> TextFeatures:
        """N captions -> features of N rows, float32, on the encoder's device, without gradient."""


@runtime_checkable
class ImageTextEncoder(TextEncoder, Protocol):
    """A frozen dual encoder: images and sentences share a space of `sentence_dim` dimensions."""

    def encode_image(self, images: torch.Tensor) -> torch.Tensor:
        """Images [N, 3, H, W] in [-1, 1] of any size -> embeddings [N, sentence_dim].

        The embeddings are not normalised. Differentiable in the images.
        """
