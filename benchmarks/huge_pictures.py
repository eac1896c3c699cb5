"""Peak memory and time of pictures of any size: `python -m benchmarks.huge_pictures --json FILE`.

Every size is drawn by a process that starts anew. --network is a preset, which gets random weights
and text features, or a snapshot, which draws `PROMPT`. After every tenth of --cpu-seconds, a
process that would need more than --cpu-seconds of processor time for the whole picture is stopped.
Its row then says how many tiles it drew, and `cpu_s_of_all` is extrapolated: the processor time per
drawn tile times the number of tiles.

`base_mib` is the resident memory before the first tile, with the network loaded. `peak_mib` is the
largest while the picture is drawn, and `process_peak_mib` that of the whole process, in which
loading the text encoder counts. Blocks follow one another and are alike, so a run that passed its
first two blocks has met its peak; `blocks` counts them. For PNG and TIFF the last step, which puts
the parts together, is measured in complete runs only. FILE.md beside the record holds a table.
"""

from __future__ import annotations

import datetime
import multiprocessing
import os
import signal
import tempfile
import time
from pathlib import Path

import click
import torch

from benchmarks.generator import text_for
from benchmarks.harness import RECORD, machine, memory_mib, numbers, reset_peak_memory
from dnnlib.console import report_user_errors
from dnnlib.errors import UserError
from dnnlib.files import write_json, write_text
from dnnlib.ownership import refuse_foreign, starting_with
from networks.coordinates import View
from networks.generators import PRESETS, preset
from networks.huge_pictures import Format, draw_huge, working_folder
from networks.interfaces import Codes, Generator
from networks.sampling import codes_of, draw_codes
from networks.snapshot import Snapshot
from networks.snapshot_folders import find_snapshot
from torch_utils.tiling import BLOCK_PX, Tiling

PROMPT = "a pink flower with many layered petals"
TITLE = "# Time and memory of pictures of any size"
IS_TABLE = starting_with(TITLE)


class TimeIsUp(Exception):
    pass


def subject(network: str) -> tuple[Generator, Codes]:
    """The generator of a preset or a snapshot, and the codes of one picture."""
    if network not in PRESETS:
        snapshot = Snapshot.from_pretrained(network)
        encoder = snapshot.load_encoder()
        return snapshot.generator, draw_codes(snapshot.generator, encoder, [PROMPT], [0])
    torch.manual_seed(0)
    generator = preset(network).build().eval().requires_grad_(False)
    with torch.no_grad():
        z = torch.randn(1, *generator.latent_shape)
        return generator, codes_of(generator, z, text_for(generator.config, 1, "cpu"))


def measure(size: int, kind: Format, network: str, seconds: float, folder: str, queue) -> None:
    """In a process of its own: one row for the queue. seconds: most processor time."""
    generator, codes = subject(network)
    tiling = Tiling(size, size)
    target = Path(folder) / f"{size}.{kind}"
    loading = memory_mib("VmHWM")
    reset_peak_memory()
    base, began, cpu = memory_mib("VmRSS"), time.perf_counter(), time.process_time()

    def tiles_drawn() -> int:
        file = working_folder(target) / "done.bin"
        return file.stat().st_size // 8 if file.exists() else 0

    def stop_if_too_long(*_):
        if (time.process_time() - cpu) * tiling.num_tiles > seconds * tiles_drawn():
            raise TimeIsUp

    signal.signal(signal.SIGPROF, stop_if_too_long)
    signal.setitimer(signal.ITIMER_PROF, seconds / 10, seconds / 10)
    try:
        facts = {"snapshot": network, "seed": "0"}
        draw_huge(generator, codes, View(height=size, width=size), target, kind, facts)
        done, complete = tiling.num_tiles, True
    except TimeIsUp:
        done, complete = tiles_drawn(), False
    signal.setitimer(signal.ITIMER_PROF, 0)
    wall, cpu = time.perf_counter() - began, time.process_time() - cpu
    peak, of_all = memory_mib("VmHWM"), cpu / done * tiling.num_tiles
    queue.put({
        "size": size, "format": kind, "tiles": tiling.num_tiles, "tiles_drawn": done,
        "blocks": done // (BLOCK_PX // tiling.tile) ** 2, "complete": complete,
        "base_mib": round(base, 1), "peak_mib": round(peak, 1),
        "process_peak_mib": round(max(peak, loading), 1), "wall_s": round(wall, 2),
        "cpu_s": round(cpu, 3), "cpu_s_of_all": round(of_all, 3), "extrapolated": not complete,
        "cpu_us_per_pixel": round(of_all * 1e6 / size**2, 3),
        "file_mib": round(target.stat().st_size / 2**20, 3) if complete else None,
    })  # fmt: skip


def table(record: dict) -> str:
    """The rows of a record in Markdown."""
    of = record["machine"]
    lines = [
        TITLE,
        "",
        f"`python -m benchmarks.huge_pictures --network {record['network']}`, {record['date']}, "
        f"{of['threads']} thread of {of['device']}, PyTorch {of['torch']}. Seconds are processor "
        "time of drawing and writing, without the start of the command.",
        "",
        "| Side | Format | Tiles drawn | CPU seconds | us a pixel | Peak while drawing, MiB | "
        "Of it, added by drawing | File, MiB |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in record["rows"]:
        share = f"{row['tiles_drawn']:,} of {row['tiles']:,}"
        seconds = f"{row['cpu_s_of_all']:,.3g}" if row["cpu_s"] < 100 else f"{row['cpu_s']:,.0f}"
        if row["extrapolated"]:
            percent = 100 * row["tiles_drawn"] / row["tiles"]
            share = f"{share} ({percent:.2g} %)"
            seconds = f"about {row['cpu_s_of_all']:,.0f}, extrapolated ({row['cpu_s']:.0f} used)"
        cells = [
            f"{row['size']:,}", row["format"], share, seconds,
            f"{row['cpu_us_per_pixel']:.2f}", f"{row['peak_mib']:.0f}",
            f"{row['peak_mib'] - row['base_mib']:.0f}",
            "" if row["file_mib"] is None else f"{row['file_mib']:.3g}",
        ]  # fmt: skip
        lines.append(f"| {' | '.join(cells)} |")
    if any(row["extrapolated"] for row in record["rows"]):
        lines += [
            "",
            "Rows marked as extrapolated were stopped. Their seconds are the time per drawn tile "
            "times the number of tiles. Their peak is that of the tiles drawn.",
        ]
    return "\n".join(lines) + "\n"


@click.command()
@click.option("--network", default="eidgan-small", show_default=True, help="Preset or snapshot.")
@click.option("--sizes", default="4096,32768", show_default=True, help="Sides in pixels.")
@click.option("--formats", default="tiff", show_default=True, metavar="A,B", help="png, tiff, dzi.")
@click.option(
    "--cpu-seconds", default=600.0, show_default=True, help="Most processor time of one picture."
)
@click.option("--workdir", type=click.Path(path_type=Path), help="Where the pictures go.")
@click.option("--json", "path", type=click.Path(path_type=Path), help="Write the record there.")
@report_user_errors
def main(
    network: str,
    sizes: str,
    formats: str,
    cpu_seconds: float,
    workdir: Path | None,
    path: Path | None,
) -> None:
    """Draw one picture of each size and format, and print a row for each."""
    source, name = network, network
    if network not in PRESETS:
        source = str(find_snapshot(network))  # one snapshot for all rows, also of a growing run
        name = "/".join(Path(source).parts[-2:])
    if path and path.suffix != ".json":
        raise UserError(f"--json {path}: the name must end in .json; the table goes to .md")
    for target, ours in ((path, RECORD), (path and path.with_suffix(".md"), IS_TABLE)):
        if target:
            refuse_foreign(target, ours)
    context, rows = multiprocessing.get_context("spawn"), []
    for kind in formats.split(","):
        for size in numbers(sizes):
            with tempfile.TemporaryDirectory(dir=workdir) as folder:
                queue = context.SimpleQueue()
                job = context.Process(
                    target=measure, args=(size, kind, source, cpu_seconds, folder, queue)
                )
                job.start()
                job.join()
                if job.exitcode:
                    raise SystemExit(f"{size}.{kind}: the process ended with {job.exitcode}")
                rows.append(queue.get())
            click.echo(rows[-1])
            record = {
                "benchmark": "huge pictures", "date": f"{datetime.date.today()}",
                "network": name, "cores": os.cpu_count(), "machine": machine(torch.device("cpu")),
                "rows": rows,
            }  # fmt: skip
            if path:
                write_json(path, record, ours=RECORD)
                write_text(path.with_suffix(".md"), table(record), ours=IS_TABLE)


if __name__ == "__main__":
    main()
