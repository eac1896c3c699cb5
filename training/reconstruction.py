"""Snapshots of any relative length, rebuilt from the power-function averages that a run has stored.

Karras et al. 2024, section 3.2: the averaged parameters are the sum of x_i theta_i over the stored
averages theta_i, with the weights x of `training.power_profiles.reconstruct`. Buffers, and with
them `tokens_mean`, the centre of truncation, are not averaged. They are copied from the snapshot of
the same moment, or from the newest snapshot of the run if that one was deleted.
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
from networks.model_card import CardFields, model_card
from networks.snapshot import Snapshot, read_config, snapshot_fault
from networks.snapshot_folders import SNAPSHOT_PREFIX, find_snapshot
from training.averages_file import Header, averages_of, read_averages, read_header
from training.power_profiles import Profiles, Reconstruction, nearest_reachable, reconstruct

MOST_ERROR = 0.1  # the largest accepted error, relative to the norm of the wanted profile


class Stored(NamedTuple):
    """The averages that a run has stored up to a moment.

    kimg, images: the moment. places: (file, index of the relative length in it) of each average.
    profiles: of each average; they end at or before `images`.
    """

    kimg: int
    images: int
    places: list[tuple[Path, int]]
    profiles: Profiles


def unedited_fault(folder: Path) -> str | None:
    """Ownership rule (`dnnlib.ownership`) of a snapshot whose model card nobody has edited."""
    fault, card = snapshot_fault(folder), folder / "README.md"
    if fault or not card.exists():
        return fault
    snapshot = Snapshot.from_pretrained(folder)
    config = read_config(folder / "config.json")
    text = model_card(config, snapshot.generator, snapshot.sha256, CardFields())
    same = card.read_bytes() == text.encode()
    return None if same else "has a README.md that this version did not write so"


def write_reconstructions(
    run_dir: Path, sigma_rels: list[float], kimg: int | None, outdir: Path
) -> Iterator[dict[str, Any]]:
    """Write the snapshot outdir/phema-<kimg>-<length> for each relative length; yield its record.

    The record has the keys network, sigma_rel, kimg, residual and rounding (`Reconstruction`),
    num_averages and buffers_of.

    kimg: the moment, one for which the run has stored averages; None = the newest. Raises
    `UserError` before the first snapshot is written, if a length cannot be rebuilt or a target
    exists that is not ours.
    """
    stored = stored_averages(run_dir, kimg)
    targets = {length: outdir / f"phema-{stored.kimg:06d}-{length:.4f}" for length in sigma_rels}
    if len(set(targets.values())) < len(sigma_rels):
        raise UserError(
            "--std: two lengths are equal when rounded to four decimals; leave one of them out"
        )
    for target in targets.values():
        refuse_foreign(target, unedited_fault)
    reconstructions = {length: _checked_reconstruction(stored, length) for length in targets}
    base = _base(run_dir, stored.kimg)
    snapshot = Snapshot.from_pretrained(base)
    for length, target in targets.items():
        reconstruction = reconstructions[length]
        _average(snapshot.generator, stored, reconstruction)
        facts = {
            "sigma_rel": length,
            "kimg": round(stored.images / 1000, 3),
            "residual": float(f"{reconstruction.residual:.3g}"),
            "rounding": float(f"{reconstruction.rounding:.3g}"),
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
    """The averages of a run up to the moment `kimg`; None = the newest.

    Raises `UserError` if the folder has no averages, none of that moment, or averages of another
    run.
    """
    if not run_dir.is_dir():
        raise UserError(f"--network {run_dir}: is no folder; give the folder of a run")
    files = averages_of(run_dir)
    moment = max(files) if kimg is None else kimg
    if moment not in files:
        raise UserError(
            f"--kimg {kimg}: {run_dir} has no averages of that moment; "
            f"name one of {listing(map(str, files), most=20)}"
        )
    headers = {path: read_header(path) for number, path in files.items() if number <= moment}
    last = headers[files[moment]]
    for path, header in headers.items():
        if header.run_id != last.run_id or header.images > last.images:
            raise UserError(
                f"{path}: is of another run than {files[moment].name}; "
                "move it out of the run folder"
            )
    return _stored(moment, last.images, headers)


def _stored(kimg: int, images: int, headers: dict[Path, Header]) -> Stored:
    averages = [
        (path, index, float(header.images), length)
        for path, header in headers.items()
        for index, length in enumerate(header.sigma_rels)
    ]
    paths, indices, times, lengths = zip(*averages, strict=True)
    return Stored(
        kimg,
        images,
        list(zip(paths, indices, strict=True)),
        Profiles.of_lengths(list(times), list(lengths)),
    )


def _checked_reconstruction(stored: Stored, length: float) -> Reconstruction:
    """The weights for a relative length. Raises `UserError` if their error is too large."""
    reconstruction = reconstruct(stored.profiles, stored.images, length)
    if reconstruction.error > MOST_ERROR:
        nearest = nearest_reachable(stored.profiles, stored.images, length, MOST_ERROR)
        raise UserError(
            f"--std {length:g}: the {len(stored.places)} stored averages miss that profile by "
            f"{reconstruction.error:.0%}, more than {MOST_ERROR:.0%}; the nearest length that "
            f"they reach is {nearest:.4f}"
        )
    return reconstruction


def _base(run_dir: Path, kimg: int) -> Path:
    """The snapshot that gives the buffers. Raises `UserError` if the run has no snapshot."""
    same_moment = run_dir / f"{SNAPSHOT_PREFIX}{kimg:06d}"
    return same_moment if (same_moment / "config.json").exists() else find_snapshot(run_dir)


def _average(generator: Generator, stored: Stored, reconstruction: Reconstruction) -> None:
    """Set the generator's parameters to the weighted sum of the stored averages.

    The sum is computed in float64. Raises `UserError` for a file that does not fit the generator.
    """
    parameters = dict(generator.named_parameters())
    sums = {name: torch.zeros_like(p, dtype=torch.float64) for name, p in parameters.items()}
    weights = reconstruction.weights.tolist()
    for (path, index), weight in zip(stored.places, weights, strict=True):
        seen = set()
        for name, value in read_averages(path, index):
            if name not in sums or sums[name].shape != value.shape:
                raise UserError(
                    f"{path}: tensor {name!r} does not fit the generator of the snapshots beside "
                    "it; are they of the same run?"
                )
            sums[name].add_(value.double(), alpha=weight)
            seen.add(name)
        if missing := sums.keys() - seen:
            raise UserError(f"{path}: has no {listing(sorted(missing))}; the file is not whole")
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(sums[name])
