"""Frozen dual encoders on open_clip models, and on the embedded towers, which have their interface.

open_clip's `CLIP`, `CustomTextCLIP` (with a text tower of open_clip or of Hugging Face) and `CoCa`
are supported. Word features are the residual stream after the last-but-one block of the text tower,
without the final LayerNorm. The image tower is differentiable.

Shapes: N batch, T context length of the text tower in tokens, L tokens of the longest caption of a
batch, d_w word width, d_s embedding width.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from dnnlib.errors import UserError
from networks.interfaces import TextFeatures
from networks.pretrained.frozen import fit_square, freeze
from networks.text_encoders.minilm import PAD_ID, MiniLMTower
from torch_utils.precision import no_autocast
from torch_utils.tensors import to_device

# Captions of one forward of the text tower. On a CPU, 32 captions fit its cache.
_BATCH, _BATCH_ON_CPU = 256, 32


class OpenClipTextEncoder:
    """An open_clip model and its tokenizer as a `TextEncoder`.

    The caller's autocast decides the precision. In float32, the features of a caption depend on the
    other captions of the batch by rounding only.
    `id` is `name@` followed by a hash of all weights. A pretrained tag and a local copy of its file
    have the same id.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        name: str,
        device: torch.device | str = "cpu",
        id: str | None = None,
    ) -> None:
        """id: that of the whole encoder, where the model is a part of it; None = computed."""
        self.device = torch.device(device)
        self.model: Any = freeze(model.to(self.device, memory_format=torch.channels_last))
        self.tokenizer = tokenizer
        self.id = id or f"{name}@{_hash_of(model.state_dict())}"
        self._tower = getattr(model, "text", model)
        blocks = _text_blocks(self._tower)
        if len(blocks) < 2:
            raise UserError(
                f"{name}: its text tower has one block and so no penultimate layer; "
                "choose another model"
            )
        self._penultimate = blocks[-2]
        self.max_tokens = self.tokenizer([""]).shape[1]  # T, with start and end of text
        probe = self.encode_text([""])
        self.sentence_dim, self.word_dim = probe.sentence.shape[-1], probe.words.shape[-1]

    @torch.no_grad()
    def encode_text(self, captions: Sequence[str]) -> TextFeatures:
        """N captions -> features of N rows in the same order, float32, on the encoder's device.

        Captions that are longer than the context are cut and keep their end-of-text token. Captions
        with similar numbers of tokens share a forward, so that little padding is computed.
        """
        tokens = self.tokenizer(list(captions))  # [N, T] on the CPU, so lengths need no device sync
        mask = self._mask(tokens)
        size = _BATCH_ON_CPU if self.device.type == "cpu" else _BATCH
        if len(tokens) <= size:
            return self._encode_batch(tokens, mask)
        order = mask.sum(1).argsort(stable=True)
        parts = [self._encode_batch(tokens[rows], mask[rows]) for rows in order.split(size)]
        return TextFeatures.cat(parts)[to_device(order.argsort(), self.device)]

    def cut(self, captions: Sequence[str]) -> tuple[list[str], int]:
        """(captions with more tokens than the text tower reads, number of tokens that it reads)."""
        # A token of ASCII text has at least one character, so shorter ASCII texts always fit. The
        # tokenizer's normalisation can make other texts longer.
        candidates = [
            text for text in captions if len(text) > self.max_tokens - 2 or not text.isascii()
        ]
        too_long = []
        for start in range(0, len(candidates), _BATCH):
            batch = candidates[start : start + _BATCH]
            # A caption is too long if it fills a context of one more token.
            mask = self._mask(self.tokenizer(batch, context_length=self.max_tokens + 1))
            too_long += [
                text for text, full in zip(batch, mask.all(1).tolist(), strict=True) if full
            ]
        return too_long, self.max_tokens

    def _encode_batch(self, tokens: torch.Tensor, mask: torch.Tensor) -> TextFeatures:
        longest = int(mask.sum(1).max())
        # Hugging Face towers accept any length. All other towers need their full context.
        if _is_hugging_face(self._tower):
            tokens = tokens[:, :longest]
        tokens, mask = (to_device(x, self.device) for x in (tokens, mask[:, :longest]))
        outputs: list[torch.Tensor | tuple] = []
        hook = self._penultimate.register_forward_hook(
            lambda module, inputs, output: outputs.append(output)
        )
        try:
            sentence = self.model.encode_text(tokens)
        finally:
            hook.remove()
        words = outputs[0] if isinstance(outputs[0], torch.Tensor) else outputs[0][0]
        if not getattr(self._tower.transformer, "batch_first", True):
            words = words.transpose(0, 1)
        return TextFeatures(sentence.float(), words[:, :longest].float(), mask)

    def _mask(self, tokens: torch.Tensor) -> torch.Tensor:
        """Token ids [N, T] -> mask [N, T] bool, True up to and including the end-of-text token.

        For towers without an end-of-text token, the mask is True on every token but padding.
        """
        pool = getattr(self._tower, "text_pool_type", getattr(self._tower, "pool_type", None))
        positions = torch.arange(tokens.shape[1], device=tokens.device)
        if pool == "argmax":  # CLIP's vocabulary: end-of-text is the largest id
            return positions <= tokens.argmax(dim=1, keepdim=True)
        if pool == "eos":
            end: Any = getattr(self._tower, "text_eos_id", getattr(self._tower, "eos_id", None))
            return positions <= tokens.eq(end).int().argmax(dim=1, keepdim=True)
        used = tokens != self._pad_id()
        return used | (positions == 0)  # every row has at least one True

    def _pad_id(self) -> int:
        if isinstance(self._tower, MiniLMTower):
            return PAD_ID
        if _is_hugging_face(self._tower):
            return self._tower.config.pad_token_id
        inner = getattr(self.tokenizer, "tokenizer", None)
        pad = getattr(inner, "pad_token_id", None)
        return getattr(self._tower, "pad_id", 0) if pad is None else pad


class OpenClipEncoder(OpenClipTextEncoder):
    """An open_clip model and its tokenizer as an `ImageTextEncoder`.

    Pictures are preprocessed as the model defines it (`visual.image_size`, `image_mean`,
    `image_std`). On a CPU they are always encoded in float32.
    """

    def __init__(
        self, model: Any, tokenizer: Any, name: str, device: torch.device | str = "cpu"
    ) -> None:
        super().__init__(model, tokenizer, name, device)
        size = model.visual.image_size
        self.input_px = size if isinstance(size, int) else min(size)
        self._mean, self._std = (
            torch.tensor(values, device=self.device).view(3, 1, 1)
            for values in (model.visual.image_mean, model.visual.image_std)
        )

    def encode_image(self, images: torch.Tensor) -> torch.Tensor:
        """Images [N, 3, H, W] in [-1, 1] of any size -> embeddings [N, d_s] float32.

        The embeddings are not normalised. Differentiable in the images.
        """
        images = (fit_square(images.to(self.device), self.input_px) + 1) / 2
        images = ((images - self._mean) / self._std).contiguous(memory_format=torch.channels_last)
        # On a CPU, depthwise convolutions take twice as long in bf16 as in float32.
        with no_autocast(self.device) if self.device.type == "cpu" else contextlib.nullcontext():
            return self.model.encode_image(images).float()


def _is_hugging_face(tower: Any) -> bool:
    """Whether a text tower is a model of Hugging Face, or MiniLM, whose modules have its names."""
    if isinstance(tower, MiniLMTower):  # asked first, so that open_clip is not imported for it
        return True
    from open_clip.hf_model import HFTextEncoder

    return isinstance(tower, HFTextEncoder)


def _text_blocks(tower: Any) -> nn.ModuleList:
    if not _is_hugging_face(tower):
        return tower.transformer.resblocks
    encoder = getattr(tower.transformer, "encoder", tower.transformer)
    lists = [module for module in encoder.children() if isinstance(module, nn.ModuleList)]
    assert len(lists) == 1, "expected one list of layers in the Hugging Face encoder"
    return lists[0]


def _hash_of(state: Mapping[str, torch.Tensor]) -> str:
    """12 hex digits of a hash over the names and the bytes of all tensors."""
    digest = hashlib.sha256()
    for name in sorted(state):
        digest.update(name.encode())
        digest.update(
            state[name].detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data
        )
    return digest.hexdigest()[:12]


def load_open_clip(
    target: str, device: torch.device | str = "cpu", *, weights: bool = True
) -> OpenClipEncoder:
    """Load the encoder of a target `MODEL/TAG` or `MODEL/FILE`.

    weights: False = random weights; the part of the target after the slash is not read.
    Raises `UserError` for an unknown model or tag, for missing weights and for weights that do not
    fit the model.
    """
    from networks.text_encoders.open_clip_weights import (
        create_model,
        create_tokenizer,
        create_untrained,
    )

    model_name, _, source = target.partition("/")
    model = create_model(model_name, source) if weights else create_untrained(model_name)
    return OpenClipEncoder(model, create_tokenizer(model_name), f"open_clip:{model_name}", device)
