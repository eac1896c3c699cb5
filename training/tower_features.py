"""Features of frozen towers, on which the heads of the small dual encoders are trained.

They are computed once and kept on disk. Every picture has several variants: unchanged, shrunk to
the sizes that generators make, and slightly moved, scaled, rotated and recoloured.

Shapes: V variants, N pictures, C captions, F image features.
"""

from __future__ import annotations

import hashlib
import sys
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from datasets.text_image import TextImageDataset
from dnnlib.files import atomic_path
from dnnlib.ownership import named_by_content
from dnnlib.weight_files import load_tensors
from networks.text_encoders.minilm import MiniLMTokenizer
from networks.text_encoders.open_clip_encoder import OpenClipEncoder
from networks.text_encoders.small import build_towers
from torch_utils.rng import generator_for
from torch_utils.tensors import from_uint8

# Variants 0 to 2: the picture unchanged, and shrunk to two sizes of small generators.
CLEAN_SIZES_PX = (None, 64, 32)
MOVED_SIZES_PX = (32, 48, 64, None)  # sizes of the augmented variants in turn; None = unchanged
_BATCH = 64


@dataclass(frozen=True)
class TowerFeatures:
    """Tower features of all pictures and captions of a split.

    images: [V, N, F] in float16, the output of an `ImageTower`. texts: [C, 384] in float32.
    caption_rows: the rows of `texts` with the captions of each picture, its name first.
    """

    images: torch.Tensor
    texts: torch.Tensor
    caption_rows: list[list[int]]


def tower_features(
    name: str, dataset: TextImageDataset, num_variants: int, seed: int, cache_dir: Path
) -> TowerFeatures:
    """Features of all pictures and captions of a split; read from `cache_dir` if they exist.

    name: of the encoder that gives the towers. num_variants: V. seed: of the augmented variants.
    """
    from safetensors.torch import save

    unique = {caption for i in range(len(dataset)) for caption in dataset.captions(i)}
    captions = sorted(unique, key=lambda caption: (len(caption), caption))  # equal lengths together
    row = {caption: i for i, caption in enumerate(captions)}
    caption_rows = [[row[caption] for caption in dataset.captions(i)] for i in range(len(dataset))]
    encoder = OpenClipEncoder(build_towers(name), MiniLMTokenizer(), f"{name}-towers-and-colours")
    parts = (
        encoder.id,
        dataset.content_hash,
        dataset.split,
        num_variants,
        seed,
        CLEAN_SIZES_PX,
        MOVED_SIZES_PX,
    )
    path = cache_dir / f"towers-{hashlib.sha256(repr(parts).encode()).hexdigest()[:16]}.safetensors"
    if not path.is_file():
        texts = [
            encoder.encode_text(captions[i : i + _BATCH]).sentence
            for i in range(0, len(captions), _BATCH)
        ]
        images = [
            _encode_variant(encoder, dataset, variant, seed) for variant in range(num_variants)
        ]
        with atomic_path(path, ours=named_by_content) as temporary:
            temporary.write_bytes(
                save({"images": torch.stack(images).half(), "texts": torch.cat(texts)})
            )
    stored = load_tensors(path)
    return TowerFeatures(stored["images"], stored["texts"].float(), caption_rows)


@torch.no_grad()
def _encode_variant(
    encoder: OpenClipEncoder, dataset: TextImageDataset, variant: int, seed: int
) -> torch.Tensor:
    rows = []
    for start in range(0, len(dataset), _BATCH):
        images = from_uint8(
            torch.stack([dataset[i].image for i in range(start, min(start + _BATCH, len(dataset)))])
        )
        rng = generator_for("tower variant", seed, variant, start)
        rows.append(encoder.encode_image(make_variant(images, variant, rng)))
    print(
        f"image features: variant {variant} of {len(dataset)} pictures", file=sys.stderr, flush=True
    )
    return torch.cat(rows)


def make_variant(images: torch.Tensor, variant: int, rng: torch.Generator) -> torch.Tensor:
    """Variant number `variant` of pictures [N, 3, H, W] in [-1, 1], possibly of a smaller size."""
    if variant < len(CLEAN_SIZES_PX):
        return _shrink(images, CLEAN_SIZES_PX[variant])
    moved = _recolour(_move(images, rng), rng)
    return _shrink(moved, MOVED_SIZES_PX[(variant - len(CLEAN_SIZES_PX)) % len(MOVED_SIZES_PX)])


def _shrink(images: torch.Tensor, size_px: int | None) -> torch.Tensor:
    if size_px is None or size_px >= min(images.shape[-2:]):
        return images
    return nn.functional.interpolate(
        images, (size_px, size_px), mode="bicubic", antialias=True
    ).clamp(-1, 1)


def _move(images: torch.Tensor, rng: torch.Generator) -> torch.Tensor:
    """Random scale, shift and small rotation. No flip, because arrows and letters have a side."""
    angle, scale = _uniform(images, rng, -0.15, 0.15), 1 / _uniform(images, rng, 0.75, 1.15)
    cos, sin = scale * angle.cos(), scale * angle.sin()
    shift_x, shift_y = _uniform(images, rng, -0.15, 0.15), _uniform(images, rng, -0.15, 0.15)
    matrix = torch.stack(
        [torch.stack([cos, -sin, shift_x], 1), torch.stack([sin, cos, shift_y], 1)], 1
    )  # [N, 2, 3]
    grid = nn.functional.affine_grid(matrix, list(images.shape), align_corners=False)
    return nn.functional.grid_sample(images, grid, padding_mode="border", align_corners=False)


def _recolour(images: torch.Tensor, rng: torch.Generator) -> torch.Tensor:
    """Random saturation and brightness."""
    grey = images.mean(1, keepdim=True)
    saturated = grey + (images - grey) * _uniform(images, rng, 0.6, 1.3).view(-1, 1, 1, 1)
    return ((saturated + 1) * _uniform(images, rng, 0.75, 1.15).view(-1, 1, 1, 1) - 1).clamp(-1, 1)


def _uniform(images: torch.Tensor, rng: torch.Generator, low: float, high: float) -> torch.Tensor:
    """One uniform number in [low, high) for each image [N]."""
    return torch.rand(len(images), generator=rng) * (high - low) + low
