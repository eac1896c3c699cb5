"""Moving pictures as files: an MP4 by PyAV, an animated WebP by Pillow, or a folder of PNGs.

The name of the target decides: `.mp4`, `.webp`, or no ending for a folder. Frames are pulled one by
one, so memory holds one frame. WebP is an exception: its library keeps the compressed frames until
the end. No frame is ever resized.
"""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from dnnlib.errors import UserError, library_errors
from dnnlib.files import atomic_path, check_target, read_json, write_json
from dnnlib.ownership import Rule, in_our_folder, json_with, whole_folder

MARK = "EIDGAN "  # what the comment of our files begins with, before their facts as JSON
FACTS = "frames.json"
MIN_FPS, MAX_FPS = 0.1, 240.0
CRF, WEBP_QUALITY = 16, 90  # of H.264: visually lossless
MAX_WEBP_PX, MAX_MP4_PX = 16383, 16384
MAX_COMMENT_BYTES = 1 << 20

Frames = Iterable[torch.Tensor]  # uint8 [3, H, W] each


def check_video(target: Path, width: int, height: int, num_frames: int, fps: float) -> None:
    """Raises `UserError` for a video that the format of `target` cannot hold, for a missing
    package, where something that is not ours lies at `target`, and for a place that cannot be
    written.
    """
    kind = _kind(target)
    if num_frames < 2:
        raise UserError(
            f"--frames {num_frames}: a video needs at least 2; generate.py without "
            "'video' draws one picture"
        )
    if not MIN_FPS <= fps <= MAX_FPS:
        raise UserError(f"--fps {fps:g}: expected a number from {MIN_FPS:g} to {MAX_FPS:g}")
    if kind == ".mp4":
        _pyav()
        if width % 2 or height % 2:
            even = f"{width + width % 2}x{height + height % 2}"
            raise UserError(
                f"size {width}x{height}: H.264 takes even sides only; use --size {even}, or name "
                "a .webp file or a folder in --out"
            )
    check_target(target, rule_of(target), folder=not kind)
    most = {".mp4": MAX_MP4_PX, ".webp": MAX_WEBP_PX}.get(kind)
    if most is not None and max(width, height) > most:
        raise UserError(
            f"size {width}x{height}: {kind} takes at most {most} pixels a side; use a smaller "
            "--size, or name a folder in --out"
        )


def write_video(
    target: Path, frames: Frames, num_frames: int, fps: float, facts: Mapping[str, str]
) -> None:
    """Write `num_frames` frames of one size, `fps` a second. The target is whole or absent.

    Call `check_video` before. Raises `UserError` where the disk refuses or is not ours.
    """
    kind = _kind(target)
    write = {".mp4": _write_mp4, ".webp": _write_webp, "": _write_folder}[kind]
    with atomic_path(target, ours=rule_of(target), folder=not kind) as path:
        write(path, frames, num_frames, fps, dict(facts))


def rule_of(target: Path) -> Rule:
    """The rule of ownership for a video of that name."""
    return {".mp4": _marked(_mp4_comment), ".webp": _marked(_webp_comment), "": _folder_fault}[
        _kind(target)
    ]


def _kind(target: Path) -> str:
    kind = target.suffix.lower()
    if kind not in (".mp4", ".webp", ""):
        raise UserError(
            f"--out {target}: expected a name that ends in .mp4 or .webp, or a name without an "
            "ending for a folder of PNG pictures"
        )
    return kind


def _pyav() -> Any:
    try:
        import av
    except ImportError:
        raise UserError(
            "an .mp4 file needs PyAV, which is not installed; run 'pip install av', or name a "
            ".webp file or a folder in --out"
        ) from None
    return av


def _write_mp4(path: Path, frames: Frames, num_frames: int, fps: float, facts: dict) -> None:
    av = _pyav()
    from av.video.reformatter import Colorspace

    rate = Fraction(fps).limit_denominator(1001)
    with av.open(str(path), "w", format="mp4", options={"movflags": "+faststart"}) as container:
        container.metadata["comment"] = MARK + json.dumps(facts)
        stream = None
        for image in frames:
            _, height, width = image.shape
            if stream is None:
                stream = container.add_stream("libx264", rate=rate, options={"crf": str(CRF)})
                stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
                # BT.709, which players assume where a file does not say.
                context = stream.codec_context
                context.colorspace = context.color_primaries = context.color_trc = 1
            frame = av.VideoFrame.from_ndarray(_array(image), format="rgb24")
            frame = frame.reformat(format="yuv420p", dst_colorspace=Colorspace.ITU709)
            container.mux(stream.encode(frame))
        assert stream is not None
        container.mux(stream.encode())


def _write_webp(path: Path, frames: Frames, num_frames: int, fps: float, facts: dict) -> None:
    picture = _PulledFrames(iter(frames), num_frames)
    comment = (MARK + json.dumps(facts)).encode()
    picture.save(
        path,
        "WEBP",
        save_all=True,
        duration=1000 / fps,
        loop=0,
        method=4,
        quality=WEBP_QUALITY,
        xmp=comment,
    )


class _PulledFrames(Image.Image):
    """For Pillow an animation of `n_frames` frames. Each is pulled when Pillow seeks it, because a
    list of frames would lie in memory as a whole.
    """

    def __init__(self, frames: Iterator[torch.Tensor], n_frames: int) -> None:
        super().__init__()
        self._frames, self.n_frames, self._at = frames, n_frames, -1
        self.seek(0)

    def seek(self, frame: int) -> None:
        if frame <= self._at:  # Pillow goes back at its end
            return
        picture = Image.fromarray(_array(next(self._frames)))
        self._mode, self._size, self.im = picture.mode, picture.size, picture.im
        self._at = frame

    def tell(self) -> int:
        return max(self._at, 0)


def _write_folder(path: Path, frames: Frames, num_frames: int, fps: float, facts: dict) -> None:
    digits = len(str(num_frames - 1))
    for number, image in enumerate(frames):
        Image.fromarray(_array(image)).save(path / f"{number:0{digits}d}.png")
    about = {"frames": num_frames, "fps": fps, **facts}
    write_json(path / FACTS, about, ours=in_our_folder)


def _array(image: torch.Tensor) -> Any:
    return image.permute(1, 2, 0).contiguous().numpy()


def _frame_names(folder: Path) -> Iterator[str]:
    if json_with("frames", "fps")(folder / FACTS):
        raise UserError(f"no {FACTS} of this program")
    yield FACTS
    count = int(read_json(folder / FACTS)["frames"])
    yield from (f"{number:0{len(str(count - 1))}d}.png" for number in range(count))


_folder_fault = whole_folder(_frame_names)


def _marked(comment: Callable[[Path], str]) -> Rule:
    def rule(path: Path) -> str | None:
        try:
            with library_errors(UserError):
                ours = comment(path).startswith(MARK)
        except UserError:  # another kind of file
            ours = False
        return None if ours else "is no video that this program made"

    return rule


def _mp4_comment(path: Path) -> str:
    with _pyav().open(str(path)) as container:
        return container.metadata.get("comment", "")


def _webp_comment(path: Path) -> str:
    """The XMP chunk. Pillow would refuse large frames, and take memory for them before."""
    with open(path, "rb") as file:
        riff, _, form = struct.unpack("<4sI4s", file.read(12))
        if (riff, form) != (b"RIFF", b"WEBP"):
            return ""
        while len(head := file.read(8)) == 8:
            name, size = struct.unpack("<4sI", head)
            if name == b"XMP ":
                return file.read(min(size, MAX_COMMENT_BYTES)).decode("utf-8", "replace")
            file.seek(size + size % 2, os.SEEK_CUR)  # chunks begin at even places
    return ""
