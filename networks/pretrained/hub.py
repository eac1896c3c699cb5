"""What weights from the Hugging Face hub need: a look into the local cache, and a quick word on the network."""

from __future__ import annotations

import socket
import urllib.parse
import urllib.request


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
