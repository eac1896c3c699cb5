"""Codes in a file: what `project.py` finds and `generate.py --codes` draws, at any size and view.

A safetensors file of the tensors `tokens` [N, k, d] and `sentence` [N, d_s], with the hash of the
network that they belong to in its metadata.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import save

from dnnlib.errors import UserError, library_errors
from dnnlib.files import atomic_path
from dnnlib.version import VERSION
from dnnlib.weight_files import open_tensors
from networks.interfaces import Codes
from networks.snapshot import Snapshot

_MARK, _NETWORK = "eidgan_codes", "network_sha256"


def save_codes(
    path: str | Path, codes: Codes, snapshot: Snapshot, facts: Mapping[str, str]
) -> None:
    """Write codes of this snapshot. facts: more metadata, such as the prompt."""
    metadata = {_MARK: VERSION, _NETWORK: snapshot.sha256} | dict(facts)
    tensors = {"tokens": codes.tokens, "sentence": codes.sentence}
    tensors = {name: x.detach().cpu().float().contiguous() for name, x in tensors.items()}
    with atomic_path(path, ours=codes_fault) as temporary:
        temporary.write_bytes(save(tensors, metadata))


def load_codes(path: str | Path, snapshot: Snapshot) -> tuple[Codes, dict[str, str]]:
    """The codes of a file and its metadata. Raises `UserError` for another file or network."""
    metadata, tensors = _read(Path(path))
    if metadata.get(_NETWORK) != snapshot.sha256:
        raise UserError(
            f"{path}: the codes were made with the network of hash "
            f"{metadata.get(_NETWORK, '')[:12]}; --network has the hash {snapshot.sha256[:12]}; "
            "give the network that the codes were made with"
        )
    shape = snapshot.generator.tokens_mean.shape
    codes = Codes(tensors["tokens"], tensors["sentence"])
    sound = codes.tokens.ndim == 3 and codes.tokens.shape[1:] == shape and len(codes) > 0
    sound = sound and codes.sentence.ndim == 2 and len(codes.sentence) == len(codes)
    if not sound or not all(x.isfinite().all() for x in tensors.values()):
        raise UserError(f"{path}: its codes do not fit the network; project the picture again")
    return codes, metadata


def codes_fault(path: Path) -> str | None:
    """The rule of ownership (`dnnlib.ownership`) for files of codes."""
    try:
        _read(path)
    except UserError:
        return "is no file of codes that project.py wrote"
    return None


def _read(path: Path) -> tuple[dict[str, str], dict[str, torch.Tensor]]:
    def refusal(reason: str) -> UserError:
        return UserError(f"{path} is no file of codes ({reason}); project.py writes such files")

    if not path.exists():
        raise UserError(f"{path} does not exist; project.py writes files of codes")
    with library_errors(refusal), open_tensors(path) as file:
        metadata = file.metadata() or {}
        if _MARK not in metadata:
            raise ValueError("no codes of EIDGAN in it")
        return metadata, {name: file.get_tensor(name) for name in ("tokens", "sentence")}
