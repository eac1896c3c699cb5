"""Snapshots of any relative length from the averages that a run kept beside its snapshots.

Karras et al. 2024, section 3.2: the averaged parameters are the sum of x_i theta_i over the stored
averages theta_i, with the weights x of `training.power_profiles.reconstruct`. Buffers are not
averaged, and neither is `tokens_mean`, the centre of truncation: both are those of the snapshot of
that moment, or of the newest snapshot of the run where that one is gone.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch

from dnnlib.errors import UserError
from dnnlib.names import listing
from dnnlib.ownership import refuse_foreign
from networks.interfaces import Generator
from networks.snapshot import SNAPSHOT_PREFIX, Snapshot, find_snapshot, snapshot_fault
from training.averages_file import Header, averages_of, read_averages, read_header
from training.power_profiles import Profiles, Reconstruction, nearest_reachable, reconstruct

MOST_ERROR = 0.1  # relative to the norm of the wanted profile


class Stored(NamedTuple):
    """The averages of a run up to a moment: (file, index of the length in it) and their profiles,
    which end at `images` at the latest."""

    kimg: int
    images: int
    places: list[tuple[Path, int]]
    profiles: Profiles


def write_reconstructions(
    run_dir: Path, sigma_rels: list[float], kimg: int | None, outdir: Path
) -> Iterator[dict[str, Any]]:
    """Write outdir/phema-<kimg>-<length> for each length and yield what is known of it: network,
    sigma_rel, kimg, residual and rounding (`Reconstruction`), num_averages, buffers_of.

    kimg: of one of the averages files; None = the newest. Raises `UserError` before the first is
    written, where a length cannot be reached or a target is not ours.
    """
    stored = stored_averages(run_dir, kimg)
    targets = {length: outdir / f"phema-{stored.kimg:06d}-{length:.4f}" for length in sigma_rels}
    if len(set(targets.values())) < len(sigma_rels):
        raise UserError("--std: names a length twice; four decimals count")
    for target in targets.values():
        refuse_foreign(target, snapshot_fault)
    found = {length: _reached(stored, length) for length in targets}
    base = _base(run_dir, stored.kimg)
    snapshot = Snapshot.from_pretrained(base)
    for length, target in targets.items():
        one = found[length]
        _average(snapshot.generator, stored, one)
        facts = {
            "sigma_rel": length,
            "kimg": round(stored.images / 1000, 3),
            "residual": float(f"{one.residual:.3g}"),
            "rounding": float(f"{one.rounding:.3g}"),
            "num_averages": len(stored.places),
            "buffers_of": base.name,
        }
        Snapshot(
            snapshot.generator,
            snapshot.text_encoder,
            snapshot.resolution,
            snapshot.info | facts,
            encoder_id=snapshot.encoder_id,
        ).save_pretrained(target)
        yield {"network": str(target)} | facts


def stored_averages(run_dir: Path, kimg: int | None) -> Stored:
    """All averages up to that moment. Raises `UserError` for a folder without any, for another
    moment, and for files of different runs.
    """
    if not run_dir.is_dir():
        raise UserError(f"--network {run_dir}: is no folder; give the folder of a run")
    files = averages_of(run_dir)
    moment = max(files) if kimg is None else kimg
    if moment not in files:
        raise UserError(
            f"--kimg {kimg}: {run_dir} has no averages of that moment; name "
            f"one of {listing(map(str, files), most=20)}"
        )
    headers = {path: read_header(path) for number, path in files.items() if number <= moment}
    last = headers[files[moment]]
    for path, header in headers.items():
        if header.run_id != last.run_id or header.images > last.images:
            raise UserError(
                f"{path}: is of another run than {files[moment].name}; move it out of "
                "the run folder"
            )
    return _stored(moment, last.images, headers)


def _stored(kimg: int, images: int, headers: dict[Path, Header]) -> Stored:
    each = [
        (path, index, float(header.images), length)
        for path, header in headers.items()
        for index, length in enumerate(header.sigma_rels)
    ]
    paths, indices, times, lengths = zip(*each, strict=True)
    return Stored(
        kimg,
        images,
        list(zip(paths, indices, strict=True)),
        Profiles.of_lengths(list(times), list(lengths)),
    )


def _reached(stored: Stored, length: float) -> Reconstruction:
    found = reconstruct(stored.profiles, stored.images, length)
    if found.error > MOST_ERROR:
        near = nearest_reachable(stored.profiles, stored.images, length, MOST_ERROR)
        raise UserError(
            f"--std {length:g}: the {len(stored.places)} stored averages miss that "
            f"profile by {found.error:.0%}, more than {MOST_ERROR:.0%}; the nearest "
            f"length that they reach is {near:.4f}"
        )
    return found


def _base(run_dir: Path, kimg: int) -> Path:
    """The snapshot folder that gives what is not averaged. Raises `UserError` where there is none."""
    same_moment = run_dir / f"{SNAPSHOT_PREFIX}{kimg:06d}"
    return same_moment if (same_moment / "config.json").exists() else find_snapshot(run_dir)


def _average(generator: Generator, stored: Stored, found: Reconstruction) -> None:
    """Set the parameters to the weighted sum, which is made in float64. Raises `UserError` for a
    file that does not fit this generator.
    """
    parameters = dict(generator.named_parameters())
    sums = {name: torch.zeros_like(p, dtype=torch.float64) for name, p in parameters.items()}
    for (path, index), weight in zip(stored.places, found.weights.tolist(), strict=True):
        seen = set()
        for name, value in read_averages(path, index):
            if name not in sums or sums[name].shape != value.shape:
                raise UserError(
                    f"{path}: tensor {name!r} does not fit the generator of the "
                    "snapshots beside it; are they of the same run?"
                )
            sums[name].add_(value.double(), alpha=weight)
            seen.add(name)
        if missing := sums.keys() - seen:
            raise UserError(f"{path}: has no {listing(sorted(missing))}; the file is not whole")
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(sums[name])
