"""Snapshots on the Hugging Face Hub: `user/name` to a local folder, and a local folder to
`user/name`. Needs the package huggingface_hub, which is imported only here and only when used.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dnnlib.errors import UserError, library_errors, reason_of
from dnnlib.version import VERSION

FILES = ("config.json", "model.safetensors", "README.md")
DISCRIMINATOR = "discriminator.safetensors"  # of a snapshot that holds it, too
_PART = r"[A-Za-z0-9][A-Za-z0-9_.-]{0,95}"


def is_hub_name(text: str) -> bool:
    """Whether `text` has the form user/name of a model on the Hub."""
    return re.fullmatch(f"{_PART}/{_PART}", text) is not None


def is_on_hub(network: str | Path) -> bool:
    """Whether a network is to be looked up on the Hub.

    It is where the text has the form user/name and neither that path nor a folder `user` exists
    here. So `runs/demmo` beside a folder `runs` is a mistyped path and is not sent anywhere. A
    `Path` always means a local folder.
    """
    if not isinstance(network, str) or not is_hub_name(network):
        return False
    return not Path(network).exists() and not Path(network).parent.exists()


def download(name: str, revision: str | None = None, *, discriminator: bool = False) -> Path:
    """The local folder of the snapshot `user/name`, downloaded into the Hub's cache where needed.

    revision: a branch, a tag or a commit; None means the main branch. discriminator: whether the
    discriminator is downloaded, too, where the snapshot holds one. Where the Hub cannot be
    reached, a copy in the cache is taken and a line on stderr says so. Raises `UserError`.
    """
    from networks.pretrained.hub import check_network

    with _hub(name, revision) as hub:
        options: dict[str, Any] = {
            "repo_id": name,
            "revision": revision,
            "library_name": "eidgan",
            "library_version": VERSION,
            "allow_patterns": [*FILES, *((DISCRIMINATOR,) if discriminator else ())],
        }
        try:
            check_network()
        except OSError as error:
            folder = _cached(hub, name, reason_of(error), options)
        else:
            folder = Path(hub.snapshot_download(**options))
    for file in FILES[:2]:
        if not (folder / file).exists():
            raise UserError(
                f"{name} on the Hugging Face Hub holds no {file}, so it is no snapshot of EIDGAN"
            )
    return folder


def _cached(hub: Any, name: str, reason: str, options: dict[str, Any]) -> Path:
    try:
        folder = Path(hub.snapshot_download(**options, local_files_only=True))
    except hub.errors.LocalEntryNotFoundError:
        raise UserError(
            f"{name} is no folder here, and the Hugging Face Hub cannot be reached to "
            f"look for a model of that name ({reason}); give a run folder or a "
            "snapshot folder, or go online"
        ) from None
    print(
        f"The Hugging Face Hub cannot be reached ({reason}); the copy of {name} in the cache is "
        f"used: {folder}",
        file=sys.stderr,
    )
    return folder


def upload(
    folder: Path,
    name: str,
    *,
    private: bool | None,
    revision: str | None,
    message: str,
    token: str | None,
) -> str:
    """Put the files of a snapshot folder into the repository `user/name` as one commit; its URL.

    The repository is made where it does not exist. Earlier commits stay. Raises `UserError`.
    """
    if not is_hub_name(name):
        raise UserError(
            f"push_to_hub {name!r}: expected the form user/name, such as 'alice/flowers64'"
        )
    with _hub(name, revision) as hub:
        api = hub.HfApi(token=token, library_name="eidgan", library_version=VERSION)
        api.create_repo(name, private=private, exist_ok=True)
        if revision is not None:
            api.create_branch(name, branch=revision, exist_ok=True)
        files = [
            hub.CommitOperationAdd(path_in_repo=file, path_or_fileobj=folder / file)
            for file in (*FILES, DISCRIMINATOR)
            if (folder / file).exists()
        ]
        commit = api.create_commit(name, files, commit_message=message, revision=revision)
    return str(commit.commit_url)


@contextmanager
def _hub(name: str, revision: str | None) -> Iterator[Any]:
    """The package huggingface_hub; what it raises becomes a `UserError` that names the model."""
    try:
        import huggingface_hub as hub
        import huggingface_hub.errors
    except ImportError:
        raise UserError(
            f"{name} is no folder here; to look for a model of that name on the "
            "Hugging Face Hub, install its package: pip install "
            "huggingface_hub"
        ) from None
    with library_errors(lambda reason: UserError(f"{name} on the Hugging Face Hub: {reason}")):
        try:
            yield hub
        except hub.errors.GatedRepoError:
            raise UserError(
                f"{name} on the Hugging Face Hub is open to some users only; ask for "
                "access on its page and run: hf auth login"
            ) from None
        except hub.errors.RepositoryNotFoundError:
            raise UserError(
                f"{name} is neither a folder here nor a model on the Hugging Face Hub "
                "that you may read; check the spelling, or run: hf auth "
                "login"
            ) from None
        except hub.errors.RevisionNotFoundError:
            raise UserError(
                f"{name} on the Hugging Face Hub has no revision {revision!r}; give a "
                "branch, a tag or a commit"
            ) from None
