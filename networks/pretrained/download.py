"""Weight files from the network: checked by sha256, and whole or absent under their final names."""

from __future__ import annotations

import http.client
import os
import socket
import sys
from pathlib import Path

import torch

from dnnlib.errors import UserError
from dnnlib.files import atomic_path, sha256_of

_TIMEOUT_S = 20  # of a server that does not answer


def fetch(url: str, target: str | os.PathLike, sha256: str) -> Path:
    """`target`, downloaded from `url` first where no file is there.

    sha256: all hex digits of the file's hash, or the first eight or more. Raises `UserError` where
    the network does not give the file, or gives another one. The message says which file to copy
    where.
    """
    assert len(sha256) >= 8
    target = Path(target)
    if target.is_file():
        return checked(target, sha256)

    def fault(path: Path) -> str | None:  # of a file that another process put there meanwhile
        return None if sha256_of(path).startswith(sha256) else "is another file"

    print(f"Downloading {url} to {target}", file=sys.stderr, flush=True)
    with atomic_path(target, ours=fault) as temporary:
        _download(url, temporary, target, sha256)
    return target


def _download(url: str, temporary: Path, target: Path, sha256: str) -> None:
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(_TIMEOUT_S)  # torch.hub passes none
    try:
        torch.hub.download_url_to_file(
            url, str(temporary), hash_prefix=sha256, progress=sys.stderr.isatty()
        )
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", None) or error
        raise UserError(
            f"{target} is missing and {url} cannot be reached ({reason}); download that file "
            f"elsewhere and copy it to {target}"
        ) from None
    except RuntimeError as error:  # the hash; torch.hub's words hold both
        raise UserError(
            f"{url} gave another file than expected, or a part of it ({error}); try again, or "
            f"download that file elsewhere and copy it to {target}"
        ) from None
    finally:
        socket.setdefaulttimeout(before)


def checked(path: str | os.PathLike, sha256: str) -> Path:
    """`path`, where its content has this sha256 or one that begins so. Raises `UserError`."""
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    found = sha256_of(path)
    if not found.startswith(sha256):
        raise UserError(
            f"{path} is damaged or another file (sha256 {found[:16]}..., expected "
            f"{sha256[:16]}...); delete it and fetch it again"
        )
    return path
