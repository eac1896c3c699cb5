"""Measure pictures per second of each detector alone and of the code around it.

    python -m benchmarks.metrics --device cuda --json FILE

The detector alone gets batches that are in memory. The runner reads the same pictures from a
folder, decodes them, and collects features and moments as `calc` does. `share` is the runner's rate
divided by the detector's, the median over rounds in which both run in turn; 1 means that the
detector never waits. Inception and DINOv2 have random weights, which take as long as trained ones.
"""

from __future__ import annotations

import datetime
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import numpy as np
import torch
from PIL import Image

from benchmarks.harness import RECORD, machine
from dnnlib.console import report_user_errors
from dnnlib.files import write_json
from dnnlib.ownership import refuse_foreign
from metrics.features.detectors import Detector, load_detector
from metrics.features.extraction import extract
from metrics.features.wants import MOMENTS, VECTORS
from metrics.pictures.picture_folder import PictureFolder
from metrics.pictures.reading import Compute, decoding_threads, read_batches
from networks.pretrained.inception import FidInception

DETECTORS = "toy,lite2,small-heldout,inception,dinov2:small"


def random_weights(name: str, folder: Path) -> dict[str, Path]:
    """A file of random weights for detectors whose weights are a download; empty for others."""
    family = name.partition(":")[0]
    path = folder / f"{family}.pth"
    if family == "inception":
        torch.save(FidInception().net.state_dict(), path)
    elif family == "dinov2":
        import timm
        from safetensors.torch import save_file

        from metrics.features.detectors.dinov2 import INPUT_PX, MODELS

        path = path.with_suffix(".safetensors")
        save_file(
            timm.create_model(
                MODELS[name], pretrained=False, num_classes=0, img_size=INPUT_PX
            ).state_dict(),
            path,
        )
    else:
        return {}
    return {family: path}


def write_folder(folder: Path, num: int, side: int, suffix: str) -> Path:
    """Write smooth random pictures, which take as long to decode as photographs."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    for index in range(num):
        coarse = rng.integers(0, 256, (side // 8, side // 8, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC).save(
            folder / f"{index:05d}{suffix}", quality=95
        )
    return folder


def seconds(action: Callable[[], object], device: torch.device) -> float:
    started = time.perf_counter()
    action()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - started


def rates(
    detector: Detector, folder: PictureFolder, batch: int, rounds: int, device: torch.device
) -> dict[str, float]:
    """Images per second of the decoder alone, of the detector alone and of the runner.

    The rates are medians over rounds in which the three run in turn.
    """
    indices = range(len(folder))

    def batches(share: range) -> Iterator[torch.Tensor]:
        return read_batches(lambda i: folder[i].image, share, Compute(device, batch), "")

    ready = list(batches(indices))
    actions = {
        "decoder": lambda: sum(len(images) for images in batches(indices)),
        "detector": lambda: [detector(images) for images in ready],
        "runner": lambda: extract(len(folder), batches, {"": detector}, {"": VECTORS | MOMENTS}),
    }
    for name in ("detector", "runner"):
        actions[name]()
    times: dict[str, list[float]] = {name: [] for name in actions}
    for _ in range(rounds):
        for name, action in actions.items():
            times[name].append(seconds(action, device))
    medians = {f"{name}_per_s": len(folder) / statistics.median(times[name]) for name in actions}
    shares = [
        alone / whole for alone, whole in zip(times["detector"], times["runner"], strict=True)
    ]
    return medians | {
        "share": statistics.median(shares),
        "share_min": min(shares),
        "share_max": max(shares),
    }


@click.command()
@click.option("--device", default="cuda" if torch.cuda.is_available() else "cpu", show_default=True)
@click.option("--detectors", default=DETECTORS, show_default=True, metavar="A,B")
@click.option("--num-images", "num", default=64, show_default=True, help="Pictures in a round.")
@click.option("--side", default=256, show_default=True)
@click.option("--suffix", type=click.Choice([".png", ".jpg"]), default=".png", show_default=True)
@click.option("--batch", default=32, show_default=True)
@click.option("--rounds", default=5, show_default=True)
@click.option(
    "--json", "json_path", type=click.Path(path_type=Path), help="Write the record to this file."
)
@report_user_errors
def main(
    device: str,
    detectors: str,
    num: int,
    side: int,
    suffix: str,
    batch: int,
    rounds: int,
    json_path: Path | None,
) -> None:
    """Time detectors and the runner."""
    if json_path:
        refuse_foreign(json_path, RECORD)
    arguments = {
        "num_images": num,
        "side": side,
        "suffix": suffix,
        "batch": batch,
        "rounds": rounds,
    }
    torch_device, rows = torch.device(device), []
    with tempfile.TemporaryDirectory() as temporary:
        place = Path(temporary)
        folder = PictureFolder(write_folder(place / "pictures", num, side, suffix))
        for name in detectors.split(","):
            detector = load_detector(name, torch_device, weights=random_weights(name, place))
            rows.append({"detector": name, **rates(detector, folder, batch, rounds, torch_device)})
            click.echo(
                "  ".join(
                    f"{key}={value:.3g}" if isinstance(value, float) else f"{key}={value}"
                    for key, value in rows[-1].items()
                )
            )
    if json_path:
        record = {
            "benchmark": "metrics",
            "date": datetime.date.today().isoformat(),
            "arguments": arguments,
            "machine": machine(torch_device) | {"decoding_threads": decoding_threads()},
            "rows": rows,
        }
        write_json(json_path, record, ours=RECORD)


if __name__ == "__main__":
    main()
