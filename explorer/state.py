"""`PictureState`: everything that one picture of the explorer depends on, checked.

The page sends it as JSON. Its hash names the picture in the addresses of tiles.
"""

from __future__ import annotations

import hashlib
import json
import shlex
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from dnnlib.config_codec import from_dict, nearest, to_dict
from dnnlib.errors import UserError
from networks.view_options import ViewOptions
from networks.warps import DISPLACEMENTS

MAX_PROMPT = 400  # characters
MAX_SEED = 2**31 - 1
WARPS = tuple(DISPLACEMENTS)  # no files: the page names no path
MAX_DOWNLOAD_PX = 1 << 24  # above it generate.py writes in tiles, and a picture here fills memory
MAX_PREVIEW_PX = 1 << 17


@dataclass(frozen=True, kw_only=True)
class Blend:
    """The picture that is interpolated to: its prompt, its seed, and how far (0 to 1)."""

    prompt: str = ""
    seed: int = 0
    weight: float = 0.0


@dataclass(frozen=True, kw_only=True)
class PictureState:
    """What a picture depends on besides the part of it that is shown.

    network: a name of `explorer.catalog.Catalog`. truncation: psi. text_noise: None for the
    network's value. rotate: degrees, counter-clockwise. warp: of `WARPS`. blend: None where nothing
    is interpolated.
    """

    network: str
    prompt: str = ""
    seed: int = 0
    truncation: float = 1.0
    text_noise: float | None = None
    rotate: float = 0.0
    warp: str | None = None
    blend: Blend | None = None

    @staticmethod
    def parse(data: Any) -> PictureState:
        """The state in the JSON of a request. Raises `UserError` that names the field."""
        state = from_dict(PictureState, data, "picture")
        state = replace(state, prompt=_clean(state.prompt, "prompt"))
        _within("seed", state.seed, 0, MAX_SEED)
        _within("truncation", state.truncation, 0, 2)
        _within("rotate", state.rotate, -360, 360)
        if state.text_noise is not None:
            _within("text_noise", state.text_noise, 0, 4)
        if state.warp is not None and state.warp not in WARPS:
            raise UserError(f"warp {state.warp[:40]!r}: is not known; {nearest(state.warp, WARPS)}")
        if state.blend is None:
            return state
        _within("blend.seed", state.blend.seed, 0, MAX_SEED)
        _within("blend.weight", state.blend.weight, 0, 1)
        prompt = _clean(state.blend.prompt, "blend.prompt")
        return replace(state, blend=replace(state.blend, prompt=prompt))

    def key(self, weights: str) -> str:
        """The name of the picture. weights: the SHA-256 of the network's weights."""
        text = json.dumps([to_dict(self), weights], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:24]

    def prompts(self) -> list[str]:
        """All prompts that are encoded, without the empty ones."""
        texts = [self.prompt, self.blend.prompt if self.blend else ""]
        return [text for text in texts if text]

    def view_options(self, window: str) -> ViewOptions:
        """The options of generate.py that draw this part of the picture."""
        return ViewOptions(window=window, rotate=self.rotate, warp=self.warp)

    def command(self, path: str, window: str, size: str, more: Mapping[str, str]) -> str:
        """The command line of generate.py that writes the same file as a download.

        path: of the network. more: further options and their values.
        """
        words = ["python", "generate.py", "--network", path]
        words += ["--prompts", self.prompt] if self.prompt else []
        words += ["--seeds", str(self.seed), "--trunc", repr(self.truncation)]
        if self.text_noise is not None:
            words += ["--text-noise", repr(self.text_noise)]
        if self.blend is not None:
            words += ["--blend", self.blend.prompt, str(self.blend.seed), repr(self.blend.weight)]
        words += [f"--rotate={self.rotate!r}"] if self.rotate else []
        words += ["--warp", self.warp] if self.warp else []
        words += [f"--window={window}", "--size", size]
        words += [word for pair in more.items() for word in pair]
        return shlex.join(words)


def _within(name: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:  # NaN fails this comparison too
        raise UserError(f"{name} {str(value)[:40]}: must be from {low} to {high}")


def _clean(prompt: str, name: str) -> str:
    """The prompt without blanks around it. Raises `UserError` for what no command line can hold."""
    prompt = prompt.strip()
    if len(prompt) > MAX_PROMPT:
        raise UserError(f"{name}: has {len(prompt)} characters; at most {MAX_PROMPT} are allowed")
    if any(unicodedata.category(letter) in ("Cc", "Cs") for letter in prompt):
        raise UserError(f"{name}: holds a control character; type it on one line")
    return prompt
