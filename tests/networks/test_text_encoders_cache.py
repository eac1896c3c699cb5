"""The disk cache of text features equals the encoder, is reused, and is never stale."""

from __future__ import annotations

import errno
import io
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from dnnlib.errors import UserError
from networks.interfaces import TextEncoder
from networks.text_encoders import cache
from networks.text_encoders.cache import CachedTextEncoder, cache_key
from networks.text_encoders.hashed import HashedEncoder

CAPTIONS = [
    f"{size} {colour} icon of {thing}"
    for size in ("a", "a very small")
    for colour in ("red", "blue", "light green")
    for thing in ("a bird", "an apple", "two dogs under a table")
] + [""]


class Counting(HashedEncoder):
    """Records the captions of each call; its features are scaled so that fp16 rounding shows."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[str] = []

    def encode_text(self, captions):
        self.asked += captions
        text = super().encode_text(captions)
        return type(text)(text.sentence * 3, text.words * 50, text.mask)


def test_lookup_equals_the_encoder_in_any_order(tmp_path):
    encoder = Counting()
    cached = CachedTextEncoder.build(encoder, CAPTIONS, tmp_path)
    assert isinstance(cached, TextEncoder) and (cached.id, cached.word_dim) == (encoder.id, 64)
    encoder.asked.clear()
    wanted = [CAPTIONS[i] for i in (7, 0, 18, 0, 3)]
    ours = cached.encode_text(wanted)
    assert encoder.asked == []
    direct = encoder.encode_text(wanted)
    assert ours.words.dtype == ours.sentence.dtype == torch.float32
    assert torch.equal(ours.sentence, direct.sentence) and torch.equal(ours.mask, direct.mask)
    torch.testing.assert_close(ours.words, direct.words, rtol=5e-4, atol=1e-6)


def test_unknown_captions_go_through_the_encoder(tmp_path):
    encoder = Counting()
    cached = CachedTextEncoder.build(encoder, CAPTIONS, tmp_path)
    encoder.asked.clear()
    wanted = [
        "a purple cow",
        CAPTIONS[2],
        "a purple cow",
        "a much longer caption that nobody has ever cached before",
    ]
    ours = cached.encode_text(wanted)
    assert encoder.asked == [wanted[0], wanted[3]]
    direct = Counting().encode_text(wanted)
    assert torch.equal(ours.mask, direct.mask) and torch.equal(ours.sentence, direct.sentence)
    torch.testing.assert_close(ours.words, direct.words, rtol=5e-4, atol=1e-6)
    assert len(cached.encode_text(["only unknown"])) == 1


def test_a_second_build_reads_the_disk(tmp_path):
    CachedTextEncoder.build(Counting(), CAPTIONS, tmp_path)
    encoder = Counting()
    again = CachedTextEncoder.build(encoder, list(reversed(CAPTIONS)) + CAPTIONS[:3], tmp_path)
    assert encoder.asked == [] and len(list(tmp_path.glob("text-*"))) == 1
    again.encode_text(CAPTIONS)
    assert encoder.asked == []


def test_builds_at_the_same_time_compute_it_once(tmp_path, monkeypatch):
    """Trainings that start together on one data set; a lock acts on threads as on processes."""
    encoder = Counting()
    inside, ready = threading.Event(), threading.Event()
    write = cache._write

    def slow_write(*arguments):
        inside.set()
        assert ready.wait(60)
        write(*arguments)

    monkeypatch.setattr(cache, "_write", slow_write)
    messages = io.StringIO()  # pytest's capture can lose a line that is written while it is read
    monkeypatch.setattr("sys.stderr", messages)
    with ThreadPoolExecutor() as pool:
        first = pool.submit(CachedTextEncoder.build, encoder, CAPTIONS, tmp_path)
        assert inside.wait(60)
        others = [
            pool.submit(CachedTextEncoder.build, encoder, CAPTIONS, tmp_path) for _ in range(2)
        ]
        end = time.monotonic() + 60
        while messages.getvalue().count("waiting for it") < 2 and time.monotonic() < end:
            time.sleep(0.01)
        ready.set()
        built = [first.result(60), *(other.result(60) for other in others)]
    assert messages.getvalue().count("waiting for it") == 2
    assert sorted(encoder.asked) == sorted(set(CAPTIONS))
    for each in built:
        assert torch.equal(
            each.lookup(["a red icon of a bird"]).sentence,
            built[0].lookup(["a red icon of a bird"]).sentence,
        )


def test_a_file_system_without_locks_is_no_obstacle(tmp_path, monkeypatch):
    def flock(handle, operation):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", flock)
    cached = CachedTextEncoder.build(Counting(), CAPTIONS, tmp_path)
    assert cached.lookup(CAPTIONS[:2]).sentence.shape == (2, cached.sentence_dim)


def test_words_are_packed_without_padding(tmp_path):
    folder = CachedTextEncoder.build(Counting(), CAPTIONS, tmp_path).folder
    tokens = int(HashedEncoder().encode_text(CAPTIONS).mask.sum())
    assert (folder / "words.f16").stat().st_size == tokens * 64 * 2


def test_the_name_changes_with_encoder_and_captions():
    key = cache_key("a", CAPTIONS)
    assert key == cache_key("a", reversed(CAPTIONS))
    assert key != cache_key("b", CAPTIONS) and key != cache_key("a", CAPTIONS[1:])
    assert cache_key("a", ["x y", "z"]) != cache_key("a", ["x", "y z"])


def test_an_interrupted_build_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(cache, "_BATCH", 128)

    class Dies(HashedEncoder):
        seen = False

        def encode_text(self, captions):
            if self.seen:
                raise KeyboardInterrupt
            self.seen = True
            return super().encode_text(captions)

    encoder = Dies()
    with pytest.raises(KeyboardInterrupt):
        CachedTextEncoder.build(encoder, [f"caption {i}" for i in range(300)], tmp_path)
    assert [path.suffix for path in tmp_path.iterdir()] == [".lock"]


def test_a_damaged_folder_is_named_with_the_remedy(tmp_path):
    folder = CachedTextEncoder.build(Counting(), CAPTIONS, tmp_path).folder
    (folder / "words.f16").write_bytes(b"short")
    with pytest.raises(UserError, match=r"damaged \(words.f16 .* delete that folder"):
        CachedTextEncoder.build(Counting(), CAPTIONS, tmp_path)
