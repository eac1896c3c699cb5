"""`Catalog`: the networks and runs that the page may name, and where they lie.

A request names a network or a run as this list does. No other name, and so no path, reaches the
file system.
"""

from __future__ import annotations

import threading
import time
from pathlib import Path

from dnnlib.config_codec import nearest
from dnnlib.errors import UserError
from networks.hub_snapshots import is_on_hub
from networks.shipped_networks import shipped_networks
from networks.snapshot_folders import SNAPSHOT_PREFIX, find_snapshot

MAX_LISTED = 500  # networks and runs each, the newest
FRESH_S = 2.0  # how long a listing is used before the folders are read again
DEPTHS = ("", "*/", "*/*/")  # where runs lie below the folder of runs


class Catalog:
    """Snapshots below `runs`, and `network`, which generate.py's `--network` would take.

    Raises `UserError` where `network` is no snapshot, and where there is no network at all.
    """

    def __init__(self, runs: Path, network: str | None) -> None:
        self.folder, self._read_at = runs, -FRESH_S
        self._lock = threading.Lock()
        if network is not None and not is_on_hub(network):
            folder = find_snapshot(network)
            network = network if shipped_networks().get(network) == folder else str(folder)
        self.network = network
        if not self.networks():
            raise UserError(
                f"--runs {runs}: holds no {SNAPSHOT_PREFIX}* folder; train a network first (make "
                "demo), or name one with --network"
            )

    @property
    def default(self) -> str:
        """The network that the page opens with: `--network`, or the newest snapshot."""
        return next(iter(self.networks()))

    def networks(self) -> dict[str, str]:
        """What `Snapshot.from_pretrained` takes, by the name in the list; the newest comes first.

        Snapshots of the folder of runs are named relative to it. The networks that come with the
        repository stand at the end.
        """
        self._read()
        return self._networks

    def runs(self) -> dict[str, Path]:
        """The folders of runs that have written stats.jsonl, by name; the newest comes first."""
        self._read()
        return self._runs

    def path_of(self, name: str) -> str:
        """Raises `UserError` for a network that is not in the list."""
        return _named(self.networks(), name, "network")

    def run_of(self, name: str) -> Path:
        """Raises `UserError` for a run that is not in the list."""
        return _named(self.runs(), name, "run")

    def _read(self) -> None:
        with self._lock:
            if time.monotonic() - self._read_at < FRESH_S:
                return
            snapshots = self._newest(f"{SNAPSHOT_PREFIX}*/config.json")
            # What `Snapshot.from_pretrained` takes: a shipped network goes by its name.
            self._networks = {name: str(path) for name, path in snapshots.items()}
            self._networks |= {name: name for name in shipped_networks() if name not in snapshots}
            if self.network is not None:
                same = [name for name, path in self._networks.items() if path == self.network]
                name = same[0] if same else self.network
                self._networks = {name: self.network} | self._networks
            self._runs = self._newest("stats.jsonl")
            self._read_at = time.monotonic()

    def _newest(self, pattern: str) -> dict[str, Path]:
        """Folders that hold a file of this pattern, by their name below the folder of runs."""
        times: list[tuple[float, Path]] = []
        for depth in DEPTHS:
            for path in self.folder.glob(depth + pattern):
                try:
                    times.append((path.stat().st_mtime, path.parent))
                except FileNotFoundError:  # the run has replaced it since
                    continue
        newest = [folder for _, folder in sorted(times, reverse=True)][:MAX_LISTED]
        return {folder.relative_to(self.folder).as_posix(): folder for folder in newest}


def _named(known: dict, name: str, what: str):  # type: ignore[no-untyped-def]
    if name not in known:
        raise UserError(f"{what} {name[:100]!r}: is not in the list; {nearest(name[:100], known)}")
    return known[name]
