"""Files from the network: verified by sha256, resumed where a download was cut, whole or absent under their final name."""

from __future__ import annotations

import os
import sys
import urllib.error
import urllib.request
from pathlib import Path

from dnnlib.errors import UserError
from dnnlib.files import sha256_of

_CHUNK = 1 << 20
_TIMEOUT_S = 20


def fetch(url: str, target: str | os.PathLike, sha256: str) -> Path:
    """`target`, downloaded from `url` first where it is not there. `sha256`: all hex digits, or the first eight or more.

    A cut download stays beside the target as `.NAME.part` and goes on from there. Raises `UserError` that says what to
    copy where when there is no network, and when the content is not what was promised.
    """
    assert len(sha256) >= 8
    target = Path(target)
    if target.is_file():
        return checked(target, sha256)
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f".{target.name}.part")
    print(f"Downloading {url} to {target}", file=sys.stderr, flush=True)
    try:
        _download(url, part)
    except (OSError, urllib.error.URLError) as error:
        reason = getattr(error, "reason", None) or error
        raise UserError(f"{target} is missing and {url} cannot be reached ({reason}); download that file elsewhere and "
                        f"copy it to {target}") from None
    found = sha256_of(part)
    if not found.startswith(sha256):
        part.unlink()
        raise UserError(f"{url} gave another file than expected (sha256 {found[:16]}..., expected {sha256[:16]}...); "
                        "try again, or copy the right file from elsewhere")
    os.replace(part, target)
    return target


def checked(path: str | os.PathLike, sha256: str) -> Path:
    """`path`, when its content has this sha256 (or one that begins so). Raises `UserError` naming the file."""
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    found = sha256_of(path)
    if not found.startswith(sha256):
        raise UserError(f"{path} is damaged or another file (sha256 {found[:16]}..., expected {sha256[:16]}...); "
                        "delete it and fetch it again")
    return path


def _download(url: str, part: Path) -> None:
    have = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        response = urllib.request.urlopen(request, timeout=_TIMEOUT_S)
    except urllib.error.HTTPError as error:
        if error.code != 416 or not have:
            raise
        part.unlink()  # the part is as long as the file or longer: start over
        return _download(url, part)
    with response, open(part, "ab" if response.status == 206 else "wb") as file:
        have = have if response.status == 206 else 0
        length = response.headers.get("Content-Length")
        total = have + int(length) if length else 0
        while chunk := response.read(_CHUNK):
            file.write(chunk)
            have += len(chunk)
            if sys.stderr.isatty() and total:
                print(f"\r{have >> 20} of {total >> 20} MB\033[K", end="", file=sys.stderr, flush=True)
        if sys.stderr.isatty():
            print(file=sys.stderr)
        file.flush()
        os.fsync(file.fileno())
    if total and have < total:
        raise OSError(f"the connection broke after {have} of {total} bytes; run the same command again to go on")
