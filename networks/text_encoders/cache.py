"""A disk cache of text features, computed once for the captions of a data set.

The folder of a cache is named by a hash of the encoder's id and the captions, so changed captions
or another encoder use another folder. Folders are written atomically. Word features are stored as
fp16 without padding and are read through a memory map; sentence embeddings are stored as float32.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch

from dnnlib.errors import UserError
from dnnlib.files import atomic_path, in_turn
from dnnlib.ownership import whole_folder
from networks.interfaces import TextEncoder, TextFeatures
from torch_utils.tensors import to_device

_FORMAT = 1
_BATCH = 2048  # captions of one call; the encoder splits them into batches of similar length
_FILES = ("offsets.i64", "sentences.f32", "words.f16")


def cache_key(encoder_id: str, captions: Iterable[str]) -> str:
    """16 hex digits of a hash over the cache format, the encoder's id and the set of captions.

    The order of the captions and repeated captions do not change the key.
    """
    digest = hashlib.sha256()
    for part in (f"format {_FORMAT}", encoder_id, *_storage_order(captions)):
        data = part.encode()
        digest.update(len(data).to_bytes(8, "little") + data)
    return digest.hexdigest()[:16]


class CachedTextEncoder:
    """A `TextEncoder` that reads known captions from the cache and passes all others to `encoder`.

    Word features from the cache are rounded to fp16 (relative error 5e-4). Sentence embeddings are
    exact.
    """

    def __init__(self, encoder: TextEncoder, captions: Iterable[str], folder: Path) -> None:
        self.encoder, self.folder = encoder, folder
        self.id = encoder.id
        self.sentence_dim, self.word_dim = encoder.sentence_dim, encoder.word_dim
        self.device = getattr(encoder, "device", torch.device("cpu"))
        self._row = {caption: row for row, caption in enumerate(_storage_order(captions))}
        self._offsets = self._map("offsets.i64", np.int64, (len(self._row) + 1,))
        self._sentences = self._map(
            "sentences.f32", np.float32, (len(self._row), self.sentence_dim)
        )
        self._words = self._map("words.f16", np.float16, (int(self._offsets[-1]), self.word_dim))

    @classmethod
    def build(
        cls, encoder: TextEncoder, captions: Sequence[str], cache_dir: Path | str
    ) -> CachedTextEncoder:
        """Open the cache of these captions in `cache_dir`; compute the features if it is missing.

        captions: at least one. Raises `UserError` for a damaged cache folder.
        """
        assert len(captions) > 0, "a text cache needs at least one caption"
        folder = Path(cache_dir) / f"text-{cache_key(encoder.id, captions)}"
        if not folder.is_dir():
            with in_turn(folder):
                if not folder.is_dir():  # no other process has computed it in the meantime
                    _compute(encoder, captions, folder)
        return cls(encoder, captions, folder)

    def encode_text(self, captions: Sequence[str]) -> TextFeatures:
        """N captions -> features of N rows in the same order.

        float32, on the encoder's device, without gradient.
        """
        unknown = [caption for caption in dict.fromkeys(captions) if caption not in self._row]
        if not unknown:
            return self.lookup(captions)
        fresh = self.encoder.encode_text(unknown)
        known = [caption for caption in dict.fromkeys(captions) if caption in self._row]
        joined = TextFeatures.cat([fresh, self.lookup(known)]) if known else fresh
        place = {caption: row for row, caption in enumerate(unknown + known)}
        rows = torch.tensor([place[caption] for caption in captions])
        return joined[to_device(rows, joined.sentence.device)]

    def lookup(self, captions: Sequence[str]) -> TextFeatures:
        """Like `encode_text`, from the cache only. Raises `KeyError` for an unknown caption."""
        rows = np.array([self._row[caption] for caption in captions])
        starts, lengths = self._offsets[rows], self._offsets[rows + 1] - self._offsets[rows]
        mask = np.arange(lengths.max()) < lengths[:, None]  # [N, L]
        words = np.zeros((*mask.shape, self.word_dim), np.float32)
        for row, (start, length) in enumerate(zip(starts, lengths, strict=True)):
            words[row, :length] = self._words[start : start + length]
        arrays = (self._sentences[rows], words, mask)
        return TextFeatures(*(to_device(torch.from_numpy(array), self.device) for array in arrays))

    def _map(self, name: str, dtype: type, shape: tuple[int, ...]) -> np.ndarray:
        path = self.folder / name
        expected = int(np.prod(shape)) * np.dtype(dtype).itemsize
        if not path.is_file() or path.stat().st_size != expected:
            raise UserError(
                f"{self.folder} is damaged ({name} is not {expected} bytes); "
                "delete that folder, and it will be computed again"
            )
        return np.memmap(path, dtype, mode="r", shape=shape)


def _storage_order(captions: Iterable[str]) -> list[str]:
    """Distinct captions, short ones first, so that batches of neighbours need little padding."""
    return sorted(set(captions), key=lambda caption: (len(caption), caption))


def _compute(encoder: TextEncoder, captions: Sequence[str], folder: Path) -> None:
    with atomic_path(folder, folder=True, ours=whole_folder(lambda _: _FILES)) as temporary:
        _write(encoder, _storage_order(captions), temporary)


def _write(encoder: TextEncoder, captions: list[str], folder: Path) -> None:
    offsets = [0]
    with (
        open(folder / "words.f16", "wb") as words_file,
        open(folder / "sentences.f32", "wb") as sentences_file,
    ):
        for start in range(0, len(captions), _BATCH):
            text = encoder.encode_text(captions[start : start + _BATCH]).to("cpu")
            words = text.words[text.mask].to(torch.float16)
            assert torch.isfinite(words).all(), "word features exceed the range of fp16"
            words_file.write(words.numpy().tobytes())
            sentences_file.write(text.sentence.float().numpy().tobytes())
            offsets.extend((offsets[-1] + text.mask.sum(1).cumsum(0)).tolist())
            _report(len(offsets) - 1, len(captions))
    (folder / "offsets.i64").write_bytes(np.array(offsets, np.int64).tobytes())


def _report(done: int, total: int) -> None:
    if total > _BATCH:
        print(f"text features: {done} of {total} captions", file=sys.stderr, flush=True)
