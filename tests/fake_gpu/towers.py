"""A small random CLIP."""

from __future__ import annotations

import open_clip


def tiny_clip() -> open_clip.CLIP:
    """Two layers of text, one of pictures, embeddings of 24 numbers."""
    config = {
        "embed_dim": 24,
        "vision_cfg": {
            "image_size": 32,
            "layers": 1,
            "width": 32,
            "head_width": 16,
            "patch_size": 8,
        },
        "text_cfg": {
            "context_length": 77,
            "vocab_size": 49408,
            "width": 32,
            "heads": 2,
            "layers": 2,
        },
    }
    model = open_clip.CLIP(**config)
    model.visual.image_mean, model.visual.image_std = (0.5,) * 3, (0.25,) * 3
    return model
