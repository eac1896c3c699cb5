"""Texts that were encoded beforehand."""

from __future__ import annotations

import weakref

import pytest
import torch

from networks.interfaces import TextEncoder
from networks.text_encoders import load_encoder
from networks.text_encoders.encoded import EncodedTexts

TEXTS = ["a red apple", "", "a small blue bird"]


def test_known_texts_have_the_features_of_the_encoder_which_is_freed():
    encoder = load_encoder("hashed")
    expected, alive = encoder.encode_text([TEXTS[2], TEXTS[0], TEXTS[2]]), weakref.ref(encoder)
    known = EncodedTexts(encoder, [*TEXTS, TEXTS[0]])
    assert isinstance(known, TextEncoder)
    assert (known.id, known.sentence_dim, known.word_dim) == (encoder.id, 64, 64)
    del encoder
    assert alive() is None
    text = known.encode_text([TEXTS[2], TEXTS[0], TEXTS[2]])
    assert torch.equal(text.mask, expected.mask)
    torch.testing.assert_close(text.sentence, expected.sentence)
    torch.testing.assert_close(text.words[text.mask], expected.words[expected.mask])
    with pytest.raises(KeyError):
        known.encode_text(["a text that was not given"])
