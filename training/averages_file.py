"""The files averages-<kimg>.safetensors: power-function averages at one moment of a run.

Tensors are float16 and named `<index of the relative length>/<name of the parameter>`. The metadata
`eidgan_averages` is JSON with the fields of `Header`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file

from dnnlib.config_codec import from_dict
from dnnlib.errors import UserError, library_errors
from dnnlib.files import atomic_path
from dnnlib.names import numbered
from dnnlib.ownership import in_our_folder
from dnnlib.weight_files import open_tensors
from training.ema import PowerAverages

PREFIX = "averages-"
TURN_ON = "--set 'ema.posthoc=[0.05, 0.1]'"
_MARK = "eidgan_averages"


@dataclass(frozen=True, kw_only=True)
class Header:
    """The metadata of a file.

    run_id: of the run that wrote the file. images: T of `PowerAverages`, at which the profiles end.
    sigma_rels: the relative lengths of the averages.
    """

    run_id: str
    images: int
    sigma_rels: tuple[float, ...]


def write_averages(run_dir: Path, kimg: int, averages: PowerAverages, run_id: str) -> None:
    """Write the averages of this moment to a file in `run_dir`, atomically.

    Before the first step there is no average, so nothing is written. A tensor with values beyond
    the range of float16 is stored in float32.
    """
    header = Header(run_id=run_id, images=int(averages.images), sigma_rels=tuple(averages.averages))
    if not header.images:
        return
    tensors = {
        f"{index}/{name}": _small(value)
        for index, average in enumerate(averages.averages.values())
        for name, value in average.items()
    }
    path = run_dir / f"{PREFIX}{kimg:06d}.safetensors"
    with atomic_path(path, ours=in_our_folder) as temporary:
        save_file(tensors, temporary, {_MARK: json.dumps(asdict(header))})
        temporary.chmod(0o644)


def _small(value: torch.Tensor) -> torch.Tensor:
    value = value.cpu().contiguous()
    half = value.half()
    return half if half.isfinite().all() else value


def averages_of(run_dir: Path) -> dict[int, Path]:
    """{kimg: file} of a run folder, oldest first. Raises `UserError` if there is none."""
    files = numbered(run_dir, PREFIX, ".safetensors")
    if not files:
        raise UserError(
            f"{run_dir} holds no {PREFIX}*.safetensors, because the run kept no "
            f"power-function averages; train another run with {TURN_ON}"
        )
    return files


def read_header(path: Path) -> Header:
    """Read the metadata of a file. Raises `UserError` if it is damaged or not one of ours."""
    with _reading(path), open_tensors(path) as file:
        text = (file.metadata() or {}).get(_MARK)
    if text is None:
        raise UserError(f"{path}: holds no averages of a run; move it out of the run folder")
    with _reading(path):
        return from_dict(Header, json.loads(text), _MARK)


def read_averages(path: Path, index: int) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield (parameter name, average) for one relative length; one tensor is in memory at a time.

    index: of the relative length in `Header.sigma_rels`. Raises `UserError` for a damaged file and
    for values that are not finite.
    """
    with _reading(path), open_tensors(path) as file:
        for key in file.keys():  # noqa: SIM118 (the file is not a dictionary)
            if key.startswith(f"{index}/"):
                value = file.get_tensor(key)
                if not value.isfinite().all():
                    raise UserError(
                        f"{path}: tensor {key!r} is not finite, the run had diverged; "
                        "name an earlier moment by --kimg"
                    )
                yield key.partition("/")[2], value


def _reading(path: Path) -> AbstractContextManager[None]:
    return library_errors(
        lambda reason: UserError(
            f"{path} cannot be read ({reason}); delete it, and the other moments are used"
        )
    )
