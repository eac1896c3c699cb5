"""What a run writes about itself: stats.jsonl (the source of truth), one printed line a tick, TensorBoard, W&B.

On resume every record past the checkpoint is dropped first, so the log has neither gap nor repeat.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from dnnlib.console import format_time
from dnnlib.files import append_json_line, read_json_lines, write_text


class RunLog:
    """Rank 0's pen. `images_seen` is where the run starts or resumes, `run_id` names it to W&B.

    W&B drops what is logged for steps that it has seen, so after a rollback its curve shows the first attempt.
    """

    def __init__(self, run_dir: Path, images_seen: int, report_to: tuple[str, ...], run_id: str,
                 options: dict[str, Any]) -> None:
        self.run_dir = run_dir
        for path in (run_dir / "stats.jsonl", *run_dir.glob("metric-*.jsonl")):
            drop_records_after(path, images_seen)
        self.writers = []
        if "tensorboard" in report_to:
            from torch.utils.tensorboard import SummaryWriter

            self.writers.append(_TensorBoard(SummaryWriter(str(run_dir), purge_step=images_seen + 1)))
        if "wandb" in report_to:
            self.writers.append(_WandB(run_dir, run_id, options))

    def tick(self, record: dict[str, Any]) -> None:
        """One record a tick; see `tick_line` for its keys."""
        append_json_line(self.run_dir / "stats.jsonl", record)
        print(tick_line(record), flush=True)
        self._scalars({name: value for name, value in record.items() if isinstance(value, (int, float))}, record["images"])

    def metric(self, name: str, record: dict[str, Any], images_seen: int) -> None:
        """One metric result; goes to metric-<name>.jsonl."""
        append_json_line(self.run_dir / f"metric-{name}.jsonl", {"images": images_seen} | record)
        if record["value"] is None:
            print(f"  {name}: none ({record.get('note')})", flush=True)
            return
        print(f"  {name}: {record['value']:.6g}", flush=True)
        self._scalars({f"Metrics/{name}": record["value"]}, images_seen)

    def has_metric(self, name: str, images_seen: int) -> bool:
        """Whether metric-<name>.jsonl holds a record of this moment."""
        return any(record["images"] == images_seen for record in read_json_lines(self.run_dir / f"metric-{name}.jsonl"))

    def _scalars(self, values: dict[str, float], step: int) -> None:
        for writer in self.writers:
            writer.scalars(values, step)

    def close(self) -> None:
        for writer in self.writers:
            writer.close()


def drop_records_after(path: Path, images_seen: int) -> None:
    """Keep only the records of a .jsonl file with `images` <= images_seen; a missing file stays missing."""
    records = read_json_lines(path)
    kept = [record for record in records if record["images"] <= images_seen]
    if path.exists():
        write_text(path, "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in kept))


def tick_line(record: dict[str, Any]) -> str:
    """The line a user watches."""
    parts = [
        f"tick {record['tick']:<5d}", f"kimg {record['kimg']:<8.1f}", f"time {format_time(record['elapsed_s']):<12s}",
        f"sec/kimg {record['sec_per_kimg']:<7.2f}", f"img/s {record['images_per_s']:<7.1f}",
        f"eta {format_time(record['eta_s']):<11s}", f"cpumem {record['cpu_gib']:<6.2f}",
        f"gpumem {record['gpu_gib']:<6.2f}", f"augment {record['augment_p']:.3f}",
    ]
    losses = [f"{name.removeprefix('Loss/')} {value:.3f}" for name, value in record.items() if name.startswith("Loss/")]
    norms = [f"{name.removeprefix('Gradient/')} {value:.3g}" for name, value in record.items() if name.startswith("Gradient/")]
    return "  ".join(parts) + "  |  loss " + " ".join(losses) + "  |  grad " + " ".join(norms) + f"  |  skipped {record['skipped']}"


class _TensorBoard:
    def __init__(self, writer) -> None:
        self.writer = writer

    def scalars(self, values: dict[str, float], step: int) -> None:
        for name, value in values.items():
            self.writer.add_scalar(name if "/" in name else f"Progress/{name}", value, step)
        self.writer.flush()

    def close(self) -> None:
        self.writer.close()


class _WandB:
    """Resumes the same W&B run: its id is the checkpoint's."""

    def __init__(self, run_dir: Path, run_id: str, options: dict[str, Any]) -> None:
        import wandb

        self.run = wandb.init(id=run_id, resume="allow", dir=str(run_dir), name=run_dir.name, config=options)

    def scalars(self, values: dict[str, float], step: int) -> None:
        self.run.log(values, step=step)

    def close(self) -> None:
        self.run.finish()
