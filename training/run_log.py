"""The log of a run: stats.jsonl, metric-<name>.jsonl, a printed line a tick, TensorBoard and W&B.

stats.jsonl holds every record; the other outputs repeat it. When a run is resumed, records after
the checkpoint are dropped first, so the log has no gap and no repeated record.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dnnlib.console import format_time
from dnnlib.errors import UserError
from dnnlib.files import append_json_line, read_json_lines, write_text, writing
from dnnlib.ownership import in_our_folder

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


class RunLog:
    """Writes the log of a run; only rank 0 has one.

    images_seen: real images shown when the run starts or resumes. report_to: "tensorboard" and
    "wandb" turn these outputs on. run_id: identifies the run for W&B. options: shown by W&B.

    W&B ignores values for steps that it has already logged. So after a rollback, its curves show
    the first attempt.
    """

    def __init__(
        self,
        run_dir: Path,
        images_seen: int,
        report_to: tuple[str, ...],
        run_id: str,
        options: dict[str, Any],
    ) -> None:
        self.run_dir = run_dir
        for path in run_dir.glob("metric-*.jsonl"):
            drop_records_after(path, images_seen)
        kept = drop_records_after(run_dir / "stats.jsonl", images_seen)
        self.num_ticks = kept[-1]["tick"] if kept else 0
        drop_tick_lines_after(run_dir / "log.txt", self.num_ticks)
        self.writers: list[_TensorBoard | _WandB] = []
        if "tensorboard" in report_to:
            from torch.utils.tensorboard import SummaryWriter

            self.writers.append(
                _TensorBoard(SummaryWriter(str(run_dir), purge_step=images_seen + 1))
            )
        if "wandb" in report_to:
            self.writers.append(_WandB(run_dir, run_id, options))

    def tick(self, record: dict[str, Any]) -> None:
        """Number and write the record of a tick; `tick_line` shows the keys that it needs."""
        self.num_ticks += 1
        record = {"tick": self.num_ticks} | record
        append_json_line(self.run_dir / "stats.jsonl", record)
        print(tick_line(record), flush=True)
        self._scalars(
            {name: value for name, value in record.items() if isinstance(value, (int, float))},
            record["images"],
        )

    def metric(self, name: str, record: dict[str, Any], images_seen: int) -> None:
        """Append the result of a metric to metric-<name>.jsonl and print its value."""
        append_json_line(self.run_dir / f"metric-{name}.jsonl", {"images": images_seen} | record)
        if record["value"] is None:
            print(f"  {name}: none ({record.get('note')})", flush=True)
            return
        print(f"  {name}: {record['value']:.6g}", flush=True)
        self._scalars({f"Metrics/{name}": record["value"]}, images_seen)

    def has_metric(self, name: str, images_seen: int) -> bool:
        """Whether metric-<name>.jsonl has a record for this number of images."""
        return any(
            record["images"] == images_seen
            for record in read_json_lines(self.run_dir / f"metric-{name}.jsonl")
        )

    def _scalars(self, values: dict[str, float], step: int) -> None:
        for writer in self.writers:
            writer.scalars(values, step)

    def close(self) -> None:
        for writer in self.writers:
            writer.close()


def drop_records_after(path: Path, images_seen: int) -> list[dict[str, Any]]:
    """Keep only the records of a .jsonl file with `images` <= images_seen, and return them.

    A missing file is not created. Raises `UserError` for a record without the number `images`.
    """
    records = read_json_lines(path)
    for number, record in enumerate(records, start=1):
        if not isinstance(record.get("images"), int):
            raise UserError(f"{path}, record {number}: has no number 'images'; delete that line")
    kept = [record for record in records if record["images"] <= images_seen]
    if path.exists():
        lines = "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in kept)
        write_text(path, lines, ours=in_our_folder)
    return kept


def drop_tick_lines_after(path: Path, num_ticks: int) -> None:
    """Remove the ticks after number `num_ticks`, and the metrics below each, from log.txt.

    The file is changed in place, because this process has it open.
    """
    if not path.exists():
        return
    dropping, kept = False, []
    for line in path.read_bytes().splitlines(keepends=True):
        tick = re.match(rb"tick (\d+) ", line)
        dropping = int(tick[1]) > num_ticks if tick else dropping and line.startswith(b"  ")
        if not dropping:
            kept.append(line)
    if len(text := b"".join(kept)) == path.stat().st_size:
        return
    with writing(path), open(path, "r+b") as file:
        file.write(text)
        file.truncate()


def tick_line(record: dict[str, Any]) -> str:
    """The line that is printed for the record of a tick."""
    parts = [
        f"tick {record['tick']:<5d}",
        f"kimg {record['kimg']:<9.6g}",
        f"time {format_time(record['elapsed_s']):<12s}",
        f"sec/kimg {record['sec_per_kimg']:<7.2f}",
        f"img/s {record['images_per_s']:<7.1f}",
        f"eta {format_time(record['eta_s']):<11s}",
        f"cpumem {record['cpu_gib']:<6.2f}",
        f"gpumem {record['gpu_gib']:<6.2f}",
        f"augment {record['augment_p']:.3f}",
    ]
    losses = [
        f"{name.removeprefix('Loss/')} {value:.3f}"
        for name, value in record.items()
        if name.startswith("Loss/")
    ]
    norms = [
        f"{name.removeprefix('Gradient/')} {value:.3g}"
        for name, value in record.items()
        if name.startswith("Gradient/")
    ]
    return (
        "  ".join(parts)
        + "  |  loss "
        + " ".join(losses)
        + "  |  grad "
        + " ".join(norms)
        + f"  |  skipped {record['skipped']}"
    )


class _TensorBoard:
    """Writes scalars to TensorBoard."""

    def __init__(self, writer: SummaryWriter) -> None:
        self.writer = writer

    def scalars(self, values: dict[str, float], step: int) -> None:
        for name, value in values.items():
            self.writer.add_scalar(name if "/" in name else f"Progress/{name}", value, step)
        self.writer.flush()

    def close(self) -> None:
        self.writer.close()


class _WandB:
    """Writes scalars to W&B. A resumed run has the same id, so W&B resumes it too."""

    def __init__(self, run_dir: Path, run_id: str, options: dict[str, Any]) -> None:
        import wandb

        self.run = wandb.init(
            id=run_id, resume="allow", dir=str(run_dir), name=run_dir.name, config=options
        )

    def scalars(self, values: dict[str, float], step: int) -> None:
        self.run.log(values, step=step)

    def close(self) -> None:
        self.run.finish()
