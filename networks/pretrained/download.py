"""Downloads of weight files, checked by sha256 and written atomically."""

from __future__ import annotations

import http.client
import os
import socket
import sys
from pathlib import Path

import torch

from dnnlib.errors import UserError
from dnnlib.files import atomic_path, sha256_of

_TIMEOUT_S = 20  # how long to wait for a server that does not answer


def fetch(url: str, target: str | os.PathLike, sha256: str) -> Path:
    """Return the path `target`; download the file from `url` first if it is missing.

    sha256: the hex digits of the file's hash, all of them or at least the first eight. Raises
    `UserError` where the download fails and where the hash differs. The message names the file to
    fetch by hand and the place for it.
    """
    assert len(sha256) >= 8
    assert url.startswith(("https://", "http://127.0.0.1:"))  # the second is a server of tests
    target = Path(target)
    if target.is_file():
        return checked(target, sha256)

    # Another process may write the target during the download. The same file may be replaced.
    def fault(path: Path) -> str | None:
        return None if sha256_of(path).startswith(sha256) else "is another file"

    print(f"Downloading {url} to {target}", file=sys.stderr, flush=True)
    with atomic_path(target, ours=fault) as temporary:
        _download(url, temporary, target, sha256)
    return target


def _download(url: str, temporary: Path, target: Path, sha256: str) -> None:
    previous_timeout = socket.getdefaulttimeout()
    socket.setdefaulttimeout(_TIMEOUT_S)  # torch.hub opens the connection without a timeout
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
    except RuntimeError as error:  # wrong hash; torch.hub's message holds both hashes
        raise UserError(
            f"{url} gave another file than expected, or a part of it ({error}); try again, or "
            f"download that file elsewhere and copy it to {target}"
        ) from None
    finally:
        socket.setdefaulttimeout(previous_timeout)


def checked(path: str | os.PathLike, sha256: str) -> Path:
    """Return `path` if the hash of its content begins with `sha256`; else raise `UserError`."""
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    digest = sha256_of(path)
    if not digest.startswith(sha256):
        raise UserError(
            f"{path} is damaged or another file (sha256 {digest[:16]}..., expected "
            f"{sha256[:16]}...); delete it and fetch it again"
        )
    return path
