"""`Painter`: from states to pixels. It keeps networks, codes, lines and tiles, all of them bounded.

A download is drawn as generate.py draws it, so that the file has the same bytes. Tiles are drawn
from lines that they share (`explorer.strips`), and equal the same pixels of one picture to 1e-5.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from dnnlib.errors import UserError
from dnnlib.prompts import fitting_prompts
from explorer.bounded import ByteCache
from explorer.state import PictureState
from explorer.strips import Strips
from explorer.tiles import Tile
from networks.coordinates import View
from networks.edit_options import EditOptions
from networks.interfaces import Codes, Generator, TextEncoder, TextFeatures, codes_between
from networks.picture_facts import about, facts_of, refuse_overflow, sampling_facts
from networks.sampling import draw_codes, render_tiled
from networks.snapshot import Snapshot
from networks.text_encoders.limits import cut_line
from torch_utils.memory import memory_errors
from torch_utils.pictures import png_bytes
from torch_utils.tensors import to_uint8

MIB = 1 << 20
NUM_NETWORKS = 4  # kept in memory at once
REMEDY = "ask for a smaller picture, or start the explorer with --device cpu"


@dataclass(frozen=True)
class Picture:
    """A state that the page may ask tiles of.

    key: its name. path: of the network. weights: the SHA-256 of the network's weights.
    """

    key: str
    state: PictureState
    path: str
    weights: str


class RememberedTexts:
    """A text encoder that encodes each prompt once, as long as its features are kept."""

    def __init__(self, encoder: TextEncoder) -> None:
        self.encoder, self.id = encoder, encoder.id
        self.sentence_dim, self.word_dim = encoder.sentence_dim, encoder.word_dim
        self._kept: ByteCache[TextFeatures] = ByteCache(16 * MIB, _bytes_of_text)

    def encode_text(self, captions: Sequence[str]) -> TextFeatures:
        """As `TextEncoder.encode_text`."""
        return TextFeatures.cat([self._features(caption) for caption in captions])

    def _features(self, caption: str) -> TextFeatures:
        kept = self._kept.get(caption)
        if kept is None:
            kept = self.encoder.encode_text([caption])
            self._kept.put(caption, kept)
        return kept


@dataclass(frozen=True)
class Network:
    """A loaded network. stamp: when its weights were written, None on the Hugging Face Hub."""

    snapshot: Snapshot
    generator: Generator
    encoder: RememberedTexts | None
    stamp: int | None


class Painter:
    """Draws on one device. Several threads may call it.

    lines_mib, tiles_mib: most memory for lines and for the files of tiles.
    """

    def __init__(self, device: torch.device, lines_mib: int = 256, tiles_mib: int = 128) -> None:
        self.device = device
        self.strips = Strips(lines_mib * MIB)
        self.tiles: ByteCache[bytes] = ByteCache(tiles_mib * MIB, _bytes_of_file)
        self._codes: ByteCache[Codes] = ByteCache(16 * MIB, _bytes_of_codes)
        self._networks: OrderedDict[str, Network] = OrderedDict()
        self._encoders: dict[str, RememberedTexts] = {}
        self._lock = threading.RLock()  # of networks, encoders and codes

    def register(self, state: PictureState, path: str) -> tuple[Picture, dict[str, Any]]:
        """The picture of a state, and what the page shows of its network.

        path: of the network. Raises `UserError` where network and prompt do not fit together.
        """
        network = self.network(path)
        generator, name = network.generator, state.network
        if not generator.config.any_view:
            raise UserError(
                f"network {name}: networks of {generator.config.kind} draw one size only, so there "
                "is no map of it; choose a network of eidgan, creps, inrgan or cips"
            )
        for text in [state.prompt] + ([state.blend.prompt] if state.blend else []):
            if generator.reads_text and not text:
                raise UserError(f"network {name}: reads a prompt; type what it shall draw")
            fitting_prompts([text] if text else [], generator.reads_text, name)
        weights = network.snapshot.sha256
        picture = Picture(state.key(weights), state, path, weights)
        self.codes(picture)
        facts = {
            "resolution": network.snapshot.resolution,
            "reads_text": generator.reads_text,
            "text_noise": generator.config.text_noise if generator.reads_text else None,
        }
        encoder = network.encoder.encoder if network.encoder else None
        return picture, facts | {"note": cut_line(encoder, state.prompts())}

    def network(self, path: str) -> Network:
        """The network of this path, loaded once and again where its file has changed."""
        with self._lock:
            stamp = _stamp(path)
            kept = self._networks.get(path)
            if kept is None or kept.stamp != stamp:
                snapshot = Snapshot.from_pretrained(path)
                encoder = self._encoder(snapshot)
                kept = Network(snapshot, snapshot.generator.to(self.device), encoder, stamp)
                self._networks[path] = kept
            self._networks.move_to_end(path)
            while len(self._networks) > NUM_NETWORKS:
                self._networks.popitem(last=False)
            return kept

    def _encoder(self, snapshot: Snapshot) -> RememberedTexts | None:
        """The text encoder of a snapshot; networks with the same encoder share it."""
        if not snapshot.generator.reads_text:
            return None
        name = f"{snapshot.text_encoder} {snapshot.encoder_id}"
        if name not in self._encoders:
            encoder = snapshot.load_encoder(self.device)
            assert encoder is not None
            self._encoders = {name: RememberedTexts(encoder)}
        return self._encoders[name]

    def codes(self, picture: Picture) -> Codes:
        """The codes of a picture; its text is encoded once. Raises `UserError` where the network
        has changed since the picture was registered.
        """
        return self._ready(picture)[1]

    @torch.no_grad()
    def _ready(self, picture: Picture) -> tuple[Network, Codes]:
        """The network that a picture was registered with, and the codes of the picture.

        Raises `UserError` where the weights at the picture's path have changed since.
        """
        with self._lock:
            network, state = self.network(picture.path), picture.state
            if network.snapshot.sha256 != picture.weights:
                raise UserError(f"network {state.network}: has changed; draw the picture again")
            codes = self._codes.get(picture.key)
            if codes is None:
                codes = self._drawn(network, state, state.prompt, state.seed)
                if state.blend is not None:
                    last = self._drawn(network, state, state.blend.prompt, state.blend.seed)
                    codes = codes_between(codes, last, state.blend.weight)
                self._codes.put(picture.key, codes)
            return network, codes

    def _drawn(self, network: Network, state: PictureState, prompt: str, seed: int) -> Codes:
        key = (network.snapshot.sha256, prompt, seed, state.truncation, state.text_noise)
        kept = self._codes.get(key)
        if kept is None:
            kept = draw_codes(
                network.generator,
                network.encoder,
                [prompt],
                [seed],
                truncation=state.truncation,
                text_noise=state.text_noise,
                device=self.device,
            )
            self._codes.put(key, kept)
        return kept

    @torch.no_grad()
    def share(self, wanted: Sequence[tuple[Picture, Tile]]) -> None:
        """Compute the lines that these tiles of one picture and zoom level need."""
        picture = wanted[0][0]
        tiles = [tile for _, tile in wanted if self.tiles.get((picture.key, tile)) is None]
        if tiles:
            network, codes = self._ready(picture)
            options = picture.state.view_options("0,0,1,1")
            with memory_errors(REMEDY):
                self.strips.share(picture.key, network.generator, codes, options, tiles)

    @torch.no_grad()
    def pixels(self, picture: Picture, tile: Tile) -> torch.Tensor:
        """The pixels of a tile.  # [3, 256, 256] float32 on the CPU"""
        network, codes = self._ready(picture)
        options = picture.state.view_options("0,0,1,1")
        return self.strips.draw(picture.key, network.generator, codes, options, tile)

    def tile(self, picture: Picture, tile: Tile) -> bytes:
        """The PNG file of a tile."""
        kept = self.tiles.get((picture.key, tile))
        if kept is None:
            with memory_errors(REMEDY):
                kept = self._png(picture, self.pixels(picture, tile))
            self.tiles.put((picture.key, tile), kept)
        return kept

    def preview(self, picture: Picture, window: str, width: int, height: int) -> bytes:
        """The PNG file of a small picture of a window."""
        key = (picture.key, window, width, height)
        kept = self.tiles.get(key)
        if kept is None:
            kept = self._png(picture, self._whole(picture, window, width, height)[0])
            self.tiles.put(key, kept)
        return kept

    def _png(self, picture: Picture, image: torch.Tensor) -> bytes:
        refuse_overflow(image, picture.state.prompt, picture.state.seed)
        return png_bytes(to_uint8(image), compression=1)

    def download(self, picture: Picture, window: str, width: int, height: int) -> bytes:
        """The PNG file that `PictureState.command` writes."""
        state, (network, _) = picture.state, self._ready(picture)
        image, view = self._whole(picture, window, width, height)
        refuse_overflow(image, state.prompt, state.seed)
        sampling = sampling_facts(network.generator, state.truncation, "prompt", state.text_noise)
        facts = facts_of(picture.weights, view, state.view_options(window), sampling)
        if state.blend is not None:
            blend = (state.blend.prompt, state.blend.seed, state.blend.weight)
            facts |= EditOptions(blend=blend).facts()
        return png_bytes(to_uint8(image), about(state.prompt, state.seed) | facts)

    @torch.no_grad()
    def _whole(
        self, picture: Picture, window: str, width: int, height: int
    ) -> tuple[torch.Tensor, View]:
        """A window as one picture [3, height, width], and its view."""
        network, codes = self._ready(picture)
        view = replace(picture.state.view_options(window).view(), height=height, width=width)
        with memory_errors(REMEDY):
            return render_tiled(network.generator, codes, view)[0], view


def _stamp(path: str) -> int | None:
    weights = Path(path) / "model.safetensors"
    return weights.stat().st_mtime_ns if weights.exists() else None


def _bytes_of_text(text: TextFeatures) -> int:
    return 4 * (text.sentence.numel() + text.words.numel()) + 1000


def _bytes_of_file(data: bytes) -> int:
    return len(data) + 1000  # a key and its entry in the cache take more than a tiny picture


def _bytes_of_codes(codes: Codes) -> int:
    return 4 * (codes.tokens.numel() + codes.sentence.numel()) + 1000
