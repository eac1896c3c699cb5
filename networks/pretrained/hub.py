"""Weight files of the Hugging Face hub: the local cache, a network check and the download."""

from __future__ import annotations

import socket
import urllib.parse
import urllib.request
from collections.abc import Callable
from pathlib import Path

from dnnlib.errors import UserError, reason_of


def cached_file(repository: str, name: str) -> str | None:
    """Path of file `name` of repository `org/name` in the local cache ($HF_HOME), or None."""
    from huggingface_hub import try_to_load_from_cache

    path = try_to_load_from_cache(repository, name)
    return path if isinstance(path, str) else None


def check_network() -> None:
    """Raise `OSError` within 5 seconds if the hub cannot be reached.

    The hub's client would retry for most of a minute.
    """
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        raise OSError("HF_HUB_OFFLINE is set")
    if urllib.request.getproxies():
        return  # the proxy connects to the hub, so a direct connection proves nothing
    url = urllib.parse.urlsplit(constants.ENDPOINT)
    socket.create_connection((url.hostname, url.port or 443), timeout=5).close()


def weights_file(repository: str, refusal: Callable[[str], UserError]) -> Path:
    """Path of `model.safetensors` of `org/name` in the local cache, downloaded if it is missing.

    Raises `refusal(reason)` where the download fails.
    """
    cached = cached_file(repository, "model.safetensors")
    if cached:
        return Path(cached)
    try:
        check_network()
        from huggingface_hub import hf_hub_download

        return Path(hf_hub_download(repository, "model.safetensors"))
    except OSError as error:
        raise refusal(reason_of(error)) from None
