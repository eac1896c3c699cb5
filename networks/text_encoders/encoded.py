"""Texts that are encoded before anything is drawn, so that the text tower can be freed."""

from __future__ import annotations

from collections.abc import Sequence

from networks.interfaces import TextEncoder, TextFeatures

MAX_TEXTS = 64  # whose features are kept: about 10 MB with the tower `small`


class EncodedTexts:
    """A `TextEncoder` of known texts. It keeps their features, and not the encoder.

    texts: each one is encoded by itself.
    """

    def __init__(self, encoder: TextEncoder, texts: Sequence[str]) -> None:
        self.id = encoder.id
        self.sentence_dim, self.word_dim = encoder.sentence_dim, encoder.word_dim
        self._features = {text: encoder.encode_text([text]) for text in dict.fromkeys(texts)}

    def encode_text(self, captions: Sequence[str]) -> TextFeatures:
        """As `TextEncoder.encode_text`. Raises `KeyError` for a text that is not one of `texts`."""
        return TextFeatures.cat([self._features[caption] for caption in captions])
