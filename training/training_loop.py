"""The training loop: steps, ticks, snapshots and checkpoints.

A run in a folder with a checkpoint resumes from the newest one.
"""

from __future__ import annotations

import math
import resource
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch

from datasets.loader import Batch, training_batches
from datasets.shard_loader import ShardDataset, ShardPosition, StreamBatch, shard_batches
from datasets.text_image import TextImageDataset
from dnnlib.config_codec import to_dict
from dnnlib.errors import UserError
from networks.interfaces import TextEncoder
from networks.snapshot import Snapshot
from networks.snapshot_folders import SNAPSHOT_PREFIX
from torch_utils.distributed import (
    broadcast_from_main,
    from_main,
    gather_objects,
    is_main,
    on_main,
    rank,
    sum_of_numbers,
    world_size,
)
from torch_utils.ops import check_backend
from torch_utils.precision import resolve
from training.averages_file import write_averages
from training.checkpoint import CheckpointIO
from training.config import TrainConfig
from training.evaluation import evaluate_ema
from training.optimize import NonFiniteError
from training.run_log import RunLog
from training.sample_grid import SampleGrid
from training.stop_signals import StopSignals
from training.trainer import Trainer
from training.transfer import start_from


class TrainingLoop:
    """A training run on one rank.

    encoder, text_encoder: as in `Trainer`. cache_dir: the folder for cached features of metrics.
    """

    def __init__(
        self,
        config: TrainConfig,
        run_dir: Path,
        dataset: TextImageDataset | ShardDataset,
        encoder: TextEncoder | None,
        text_encoder: TextEncoder | None,
        device: torch.device,
        cache_dir: Path,
    ) -> None:
        self.config, self.run_dir, self.dataset = config, run_dir, dataset
        self.device, self.cache_dir = device, cache_dir
        # The hash of a plain folder takes all its pictures to be read, so only rank 0 computes it.
        on_main(lambda: dataset.content_hash)
        self.data_hash = from_main(dataset.content_hash if is_main() else None)
        self.trainer = Trainer(config, encoder, device, text_encoder)
        objects, self.position = self.trainer.objects, None
        if isinstance(dataset, ShardDataset):
            self.position = ShardPosition(rank(), world_size(), config.workers)
            objects["shards"] = self.position
        self.left_out = 0  # samples of shards in this tick that could not be used
        self.checkpoint = CheckpointIO(run_dir, objects, to_dict(config), config.keep_latest)
        shown = dataset
        # Pictures of any size are shown as frames, none enlarged.
        if config.patches.side and isinstance(dataset, TextImageDataset):
            shown = dataset.framed(min(config.resolution, dataset.least_side))
        self.grid = SampleGrid(shown, config.seed, config.resolution)
        self.total_images = -(-round(config.kimg * 1000) // config.batch) * config.batch
        self.tick_images = max(round(config.tick_kimg * 1000), 1)
        self.signals = StopSignals()
        self.saved_at = time.monotonic()
        self.log: RunLog | None = None

    def run(self, resumed: Path | None) -> bool:
        """Train. Return True at the end of the run, False if a signal stopped it (state saved).

        resumed: the result of `resume`.
        """
        on_main(self._open_log)
        on_main(lambda: self._announce(resumed))
        with self.signals, self.checkpoint:
            if resumed is None:
                self._save()
            self._evaluate()  # also of a snapshot whose metrics an ended process did not write
            finished = self._steps() and not self._missing_metrics()
            on_main(self.checkpoint.finish)
        if is_main() and not finished:
            images = self.trainer.progress.images
            print(f"Stopped at {images} images; run the same command again to go on.")
        self._with_log(RunLog.close)
        return finished

    def resume(self) -> Path | None:
        """Load the newest checkpoint and return its path; without one, prepare a new run.

        A new run takes the weights of `init_from`, if given, and gives every rank the weights of
        rank 0. Raises `UserError` if ranks see different checkpoints, or the data set has changed.
        """
        resumed, progress = self.checkpoint.load_latest(), self.trainer.progress
        if len(set(gather_objects((resumed and resumed.name, progress.images)))) > 1:
            raise UserError(
                f"{self.run_dir}: the processes see different checkpoints; "
                "--outdir must lie on storage that all nodes share"
            )
        if resumed is None:
            progress.run_id = from_main(uuid.uuid4().hex)
            progress.dataset_hash = self.data_hash
            if self.config.init_from is not None:
                lines = start_from(self.config.init_from, self.trainer)
                if is_main():
                    print("\n".join(lines))
            for network in (
                self.trainer.generator,
                self.trainer.discriminator,
                self.trainer.ema.model,
                *([] if self.trainer.loss.teacher is None else [self.trainer.loss.teacher.network]),
            ):
                broadcast_from_main(network.state_dict().values())
        elif progress.dataset_hash != self.data_hash:
            raise UserError(
                f"--data {self.config.data}: not the pictures that this run was started with; "
                "restore that data set, or give another --outdir with --init-from"
            )
        return resumed

    def _open_log(self) -> None:
        progress = self.trainer.progress
        self.log = RunLog(
            self.run_dir,
            progress.images,
            self.config.report_to,
            progress.run_id,
            to_dict(self.config),
        )

    def _with_log(self, action: Callable[[RunLog], Any]) -> None:
        """Call `action(log)` on rank 0; its `UserError` is raised on every rank."""
        on_main(lambda: self.log and action(self.log))

    def _announce(self, resumed: Path | None) -> None:
        """Print what is trained on which device; write reals.png for a new run."""
        config, progress = self.config, self.trainer.progress
        params = [
            sum(p.numel() for p in net.parameters()) / 1e6
            for net in (self.trainer.generator, self.trainer.discriminator)
        ]
        print(
            f"{config.recipe}: G {params[0]:.2f} M, D {params[1]:.2f} M parameters; "
            f"{self.dataset.title}; "
            f"{self.device.type} x {world_size()}; batch {config.batch} = {world_size()} x "
            f"{self.trainer.rounds} x {self.trainer.micro_size}; "
            f"operators: {check_backend(config.ops, self.device)}; "
            f"precision: {resolve(self.device, config.precision)}{self.trainer.graphs_note}"
        )
        if resumed is not None:
            print(f"Resumed from {resumed.name} at {progress.images} images.")
        else:
            self.grid.save_reals(self.run_dir / "reals.png")
        if progress.images >= self.total_images:
            print(self._nothing_to_do())

    def _nothing_to_do(self) -> str:
        images, wanted = self.trainer.progress.images, f"--kimg {self.config.kimg:g}"
        state = "is finished" if images == self.total_images else "is already further"
        return (
            f"Nothing to train: the run has shown {images} images, so with {wanted} it "
            f"{state}; give a --kimg above {images / 1000:g} to continue it."
        )

    def _batches(self) -> Iterator[Batch]:
        on_main(self.checkpoint.finish)  # no worker is forked while a thread writes
        config, images = self.config, self.trainer.progress.images
        options: dict[str, Any] = {
            "global_batch": config.batch,
            "seed": config.seed,
            "mirror": config.mirror,
            "start_images": images,
            "num_workers": config.workers,
            "pin_memory": self.device.type == "cuda",
            "patches": config.patches,
        }
        if isinstance(self.dataset, TextImageDataset):
            return training_batches(self.dataset, rank=rank(), world_size=world_size(), **options)
        assert self.position is not None
        if images and not self.position.fits:
            self.position.begin(images)
            if is_main():
                print("New streams of shards begin: the ranks or loader processes have changed.")
        return shard_batches(self.dataset, self.position, **options)

    def _crossed(self, period: int) -> bool:
        """Whether the last step reached or passed a multiple of `period` images."""
        images = self.trainer.progress.images
        return images // period > (images - self.config.batch) // period

    def _steps(self) -> bool:
        """Train until the end (True) or a signal (False)."""
        progress, batches = self.trainer.progress, self._batches()
        tick_start, tick_began = progress.images, time.monotonic()
        while progress.images < self.total_images:
            batch = next(batches)
            self.trainer.step(batch.images, batch.captions, batch.boxes)
            if self.position is not None and isinstance(batch, StreamBatch):
                self.position.passed(batch.stream, batch.cursor)
                self.left_out += batch.left_out
            done, stop = progress.images >= self.total_images, self.signals.agreed()

            # Tick: check the gradients, write the log, save a snapshot or a checkpoint.
            if done or stop or self._crossed(self.tick_images):
                try:
                    self.trainer.check_finite()
                except NonFiniteError as error:
                    batches = self._not_finite(error)
                    tick_start, tick_began = progress.images, time.monotonic()
                    continue
                seconds = time.monotonic() - tick_began
                progress.elapsed_s += seconds
                self._tick(progress.images - tick_start, seconds)
                on_main(self.checkpoint.check)
                if done or self._crossed(self.tick_images * self.config.snapshot_ticks):
                    self._save()
                    if not stop:
                        self._evaluate()
                elif stop or from_main(self._checkpoint_is_due()):
                    self._save_checkpoint()
                tick_start, tick_began = progress.images, time.monotonic()

            if stop and not done:
                return False
        return True

    def _not_finite(self, error: NonFiniteError) -> Iterator[Batch]:
        """Stop the run, or return to the last checkpoint with new random streams (`nan_policy`).

        Returns the batches after it. Raises `UserError` to stop; the checkpoint stays as it is.
        """
        progress = self.trainer.progress
        if self.config.nan_policy != "rollback" or progress.rollbacks >= 10:
            other = "" if progress.rollbacks else " or rollback"
            raise UserError(
                f"training stopped at {progress.images} images: {error}. The last checkpoint is "
                f"whole: resume with --nan-policy skip{other}, or start another --outdir with "
                "--init-from this run and a lower learning rate (with R1, a higher --gamma)"
            ) from None
        rollbacks, failed_at = progress.rollbacks + 1, progress.images
        on_main(self.checkpoint.finish)  # every rank reads the checkpoint that rank 0 wrote
        if self.checkpoint.load_latest() is None:
            raise UserError(
                f"training stopped at {failed_at} images before its first checkpoint: {error}"
            ) from None
        progress.rollbacks = rollbacks
        line = f"At {failed_at} images {error}: back to {progress.images} images"

        def reopen(log: RunLog) -> None:
            print(f"{line} (rollback {rollbacks}).")
            log.close()
            self._open_log()

        self._with_log(reopen)
        return self._batches()

    def _tick(self, images: int, seconds: float) -> None:
        """Write the record of a tick in which `images` images took `seconds`."""
        config, progress = self.config, self.trainer.progress
        means = {
            name: mean
            for name, mean in self.trainer.collector.flush().items()
            if math.isfinite(mean)
        }
        if self.position is not None:
            means["left_out"] = sum_of_numbers([self.left_out])[0]
            self.left_out = 0
        rate = images / max(seconds, 1e-9)
        cuda = self.device.type == "cuda"
        max_rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # in KiB; on macOS in bytes
        record = {
            "kimg": progress.images / 1000,
            "images": progress.images,
            "elapsed_s": round(progress.elapsed_s, 3),
            "sec_per_kimg": 1000 / rate,
            "images_per_s": rate,
            "eta_s": (self.total_images - progress.images) / rate,
            "cpu_gib": max_rss / 2**20 / (1024 if sys.platform == "darwin" else 1),
            "gpu_gib": torch.cuda.max_memory_allocated(self.device) / 2**30 if cuda else 0.0,
            "augment_p": float(self.trainer.augment.p),
            "skipped": self.trainer.player_g.num_skipped + self.trainer.player_d.num_skipped,
            "batch": config.batch,
        }
        self._with_log(lambda log: log.tick(record | means))

    def _checkpoint_is_due(self) -> bool:
        return time.monotonic() - self.saved_at > 60 * self.config.checkpoint_minutes

    def _save_checkpoint(self) -> None:
        if self.position is not None:
            self.position.gather()
        on_main(lambda: self.checkpoint.start_save(self.trainer.progress.images))
        self.saved_at = time.monotonic()

    def _save(self) -> None:
        """Write fakes and snapshot, then the checkpoint, then the metrics.

        A run that is killed before the checkpoint resumes from an earlier one and writes fakes and
        snapshot again. A run that is killed later computes the missing metrics when it resumes.
        """
        config, progress, ema = self.config, self.trainer.progress, self.trainer.ema.model
        name = f"{progress.images // 1000:06d}"
        progress.snapshot_images = progress.images
        encoder = self.trainer.encoder
        snapshot = Snapshot(
            ema,
            config.text_encoder if encoder else "",
            config.resolution,
            {
                "recipe": config.recipe,
                "kimg": round(progress.images / 1000, 3),
                "dataset": self.dataset.name,
                "dataset_hash": self.data_hash,
                "seed": config.seed,
                "batch": config.batch,
                "training_time_s": round(progress.elapsed_s),
                "image_losses": bool(config.loss.cond or config.loss.cong),
            },
            encoder_id=encoder.id if encoder else "",
        )

        def save() -> None:
            self.grid.save_fakes(
                self.run_dir / f"fakes{name}.png", ema, self.trainer.text_encoder, self.device
            )
            snapshot.save_pretrained(self.run_dir / f"{SNAPSHOT_PREFIX}{name}")
            if config.ema.posthoc:
                write_averages(
                    self.run_dir, progress.images // 1000, self.trainer.powers, progress.run_id
                )

        on_main(save)
        self._save_checkpoint()

    def _missing_metrics(self) -> list[str]:
        """The metrics of a snapshot of this number of images that the log does not hold yet."""
        progress, names = self.trainer.progress, self.config.metrics
        missing: list[str] = []
        if progress.snapshot_images == progress.images:
            self._with_log(
                lambda log: missing.extend(
                    n for n in names if not log.has_metric(n, progress.images)
                )
            )
        return from_main(missing)

    def _evaluate(self) -> None:
        """Compute the missing metrics, until a signal asks for the end of the run."""
        images = self.trainer.progress.images
        if missing := self._missing_metrics():
            on_main(self.checkpoint.finish)  # no worker is forked while a thread writes
        for metric, record in evaluate_ema(self.trainer, missing, self.cache_dir):
            self._with_log(partial(RunLog.metric, name=metric, record=record, images_seen=images))
            if self.signals.agreed():
                break
