"""Peak memory and time of huge pictures: `python -m benchmarks.huge_pictures --json FILE`.

Every size is drawn by a process that starts anew, from a network with drawn weights. A process
stops after --seconds of wall time; the row then says how many tiles it drew, and `hours` is what
all of them would take. `base_mib` is the peak of the process (VmHWM) once the network is loaded,
`peak_mib` the peak at the end. Blocks follow one another and are alike, so a run that passed its
first two blocks has met its peak; `blocks` counts them. For PNG and TIFF the last step, which puts
the parts together, is measured in complete runs only.
"""

from __future__ import annotations

import datetime
import multiprocessing
import os
import platform
import signal
import tempfile
import time
from pathlib import Path

import click
import torch

from benchmarks.generator import text_for
from benchmarks.harness import RECORD, numbers
from dnnlib.console import report_user_errors
from dnnlib.files import write_json
from dnnlib.ownership import refuse_foreign
from networks.coordinates import View
from networks.generators import preset
from networks.huge_pictures import Format, draw_huge, working_folder
from networks.sampling import codes_of
from torch_utils.tiling import BLOCK_PX, Tiling


class TimeIsUp(Exception):
    pass


def measure(size: int, kind: Format, network: str, seconds: float, folder: str, queue) -> None:
    """In a process of its own: one row for the queue."""
    torch.manual_seed(0)
    config = preset(network)
    generator = config.build().eval().requires_grad_(False)
    with torch.no_grad():
        z = torch.randn(1, *generator.latent_shape)
        codes = codes_of(generator, z, text_for(config, 1, "cpu"))
    tiling = Tiling(size, size)
    target = Path(folder) / f"{size}.{kind}"
    base, began, cpu = peak_mib(), time.perf_counter(), time.process_time()

    def stop(*_):
        raise TimeIsUp

    signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        facts = {"snapshot": network, "seed": "0"}
        draw_huge(generator, codes, View(height=size, width=size), target, kind, facts)
        done, complete = tiling.num_tiles, True
    except TimeIsUp:
        done, complete = (working_folder(target) / "done.bin").stat().st_size // 8, False
    wall, cpu = time.perf_counter() - began, time.process_time() - cpu
    queue.put({
        "size": size, "format": kind, "tiles": tiling.num_tiles, "tiles_drawn": done,
        "blocks": done // (BLOCK_PX // tiling.tile) ** 2, "complete": complete,
        "base_mib": round(base, 1), "peak_mib": round(peak_mib(), 1), "wall_s": round(wall, 1),
        "cpu_s": round(cpu, 1), "cpu_hours_of_all": round(cpu / done * tiling.num_tiles / 3600, 3),
        "cpu_us_per_pixel": round(cpu * 1e6 * tiling.num_tiles / done / size**2, 3),
        "file_mib": round(target.stat().st_size / 2**20, 1) if complete else None,
    })  # fmt: skip


def peak_mib() -> float:
    """Largest resident memory of this process so far."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    raise RuntimeError("/proc/self/status holds no VmHWM; this benchmark needs Linux")


@click.command()
@click.option("--network", default="eidgan-small", show_default=True, help="Preset of a generator.")
@click.option("--sizes", default="4096,32768", show_default=True, help="Sides in pixels.")
@click.option("--formats", default="tiff", show_default=True, metavar="A,B", help="png, tiff, dzi.")
@click.option("--seconds", default=600.0, show_default=True, help="Wall time of one picture.")
@click.option("--workdir", type=click.Path(path_type=Path), help="Where the pictures go.")
@click.option("--json", "path", type=click.Path(path_type=Path), help="Write the record there.")
@report_user_errors
def main(
    network: str, sizes: str, formats: str, seconds: float, workdir: Path | None, path: Path | None
) -> None:
    if path:
        refuse_foreign(path, RECORD)
    context, rows = multiprocessing.get_context("spawn"), []
    for kind in formats.split(","):
        for size in numbers(sizes):
            with tempfile.TemporaryDirectory(dir=workdir) as folder:
                queue = context.SimpleQueue()
                job = context.Process(
                    target=measure, args=(size, kind, network, seconds, folder, queue)
                )
                job.start()
                job.join()
                if job.exitcode:
                    raise SystemExit(f"{size}.{kind}: the process ended with {job.exitcode}")
                rows.append(queue.get())
            click.echo(rows[-1])
            record = {
                "benchmark": "huge pictures", "date": f"{datetime.date.today()}",
                "network": network, "threads": torch.get_num_threads(), "cores": os.cpu_count(),
                "machine": platform.machine(), "torch": torch.__version__, "rows": rows,
            }  # fmt: skip
            if path:
                write_json(path, record, ours=RECORD)


if __name__ == "__main__":
    main()
