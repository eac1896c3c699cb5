"""Where snapshots lie: in run folders, in this repository and on the Hugging Face Hub."""

from __future__ import annotations

from pathlib import Path

from dnnlib.errors import UserError
from dnnlib.names import numbered
from networks import hub_snapshots
from networks.shipped_networks import shipped_networks

SNAPSHOT_PREFIX = "network-snapshot-"


def snapshot_folder(
    path: str | Path, revision: str | None = None, *, discriminator: bool = False
) -> Path:
    """The local folder of a snapshot, which is downloaded from the Hub where needed.

    path, revision: as for `Snapshot.from_pretrained`. discriminator: download the discriminator,
    too, if the snapshot holds one. Raises `UserError`.
    """
    if hub_snapshots.is_on_hub(path):
        return hub_snapshots.download(str(path), revision, discriminator=discriminator)
    if revision is not None:
        raise UserError(
            f"{path}: is a local path and not a name on the Hugging Face Hub, so it has "
            f"no revision {revision!r}; leave the revision out"
        )
    return find_snapshot(path)


def snapshots_in(run_dir: Path) -> list[Path]:
    """The snapshot folders network-snapshot-<kimg> of a run folder, oldest first."""
    folders = numbered(run_dir, SNAPSHOT_PREFIX).values()
    return [folder for folder in folders if (folder / "config.json").exists()]


def find_snapshot(path: str | Path) -> Path:
    """The snapshot folder of `path`: `path` itself, the newest snapshot of a run folder, or the
    network of this name that comes with the repository (`networks.shipped_networks`).

    Raises `UserError` where there is none.
    """
    path = Path(path)
    if not path.exists():
        shipped = shipped_networks()
        if str(path) in shipped:
            return shipped[str(path)]
        raise UserError(
            f"{path} does not exist; give a run folder, a snapshot folder, the name user/model of "
            f"a model on the Hugging Face Hub, or one of the networks that come with this "
            f"repository: {', '.join(shipped) or 'none'}"
        )
    if not path.is_dir():
        raise UserError(
            f"{path} is a file; give the snapshot folder that holds config.json and "
            "model.safetensors"
        )
    if (path / "config.json").exists():
        return path
    snapshots = snapshots_in(path)
    if snapshots:
        return snapshots[-1]
    if (path / "model.safetensors").exists():
        raise UserError(
            f"{path / 'config.json'} does not exist; a snapshot folder needs it and "
            "model.safetensors"
        )
    raise UserError(
        f"{path}: neither config.json nor a {SNAPSHOT_PREFIX}<kimg> folder in it; "
        "give a run or snapshot folder"
    )
