"""What weights from the Hugging Face hub need: a look into the local cache, and a quick word on the network."""

from __future__ import annotations

import socket
import urllib.parse
import urllib.request
from collections.abc import Callable
from pathlib import Path

from dnnlib.errors import UserError, reason_of


def cached_file(repository: str, name: str) -> str | None:
    """Path of a file of `org/name` in the local cache ($HF_HOME), or None."""
    from huggingface_hub import try_to_load_from_cache

    path = try_to_load_from_cache(repository, name)
    return path if isinstance(path, str) else None


def check_network() -> None:
    """Raises OSError at once where the hub cannot be reached: its client would retry for most of a minute."""
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        raise OSError("HF_HUB_OFFLINE is set")
    if urllib.request.getproxies():
        return  # a proxy resolves names for us
    url = urllib.parse.urlsplit(constants.ENDPOINT)
    socket.create_connection((url.hostname, url.port or 443), timeout=5).close()


def weights_file(repository: str, refusal: Callable[[str], UserError]) -> Path:
    """`model.safetensors` of `org/name` from the local cache, or a fresh download.

    Raises `refusal(reason)` where it is neither here nor within reach.
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
