"""`TrainConfig`: everything that decides what a run computes.

It is composed of the configs of the parts, and fields that depend on each other are checked. A
recipe (configs/) returns a `TrainConfig`, flags change its fields, `--dry-run` prints it, and the
run folder keeps it as training_options.json. Units are in the names; kimg = thousands of real
images shown.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Annotated, Literal

from datasets.patches import WHOLE_PICTURES, PatchConfig
from datasets.stylegan import LabelCaptions
from dnnlib.bounds import (
    AtLeastOne,
    BelowOne,
    Bound,
    NotNegative,
    NotNegativeInt,
    Positive,
    at_least,
    check_bounds,
)
from dnnlib.errors import UserError
from metrics.evaluations import evaluations_named
from networks.discriminators import DiscriminatorConfig, FrozenFeaturesConfig
from networks.generators import GeneratorConfig, QuantizedConfig
from networks.interfaces import Generator
from networks.layers.vector_quantizer import VectorQuantizerConfig
from networks.patches import PLACE_DIM
from networks.text_encoders import encoder_widths
from training.augment import AugmentConfig
from training.loss_config import LossConfig
from training.power_profiles import LONGEST, SHORTEST

_LONGEST_KIMG = "must lie between 0 and 1e9"
Kimg = Annotated[float, Bound(lambda value: 0 < value < 1e9, _LONGEST_KIMG)]
StartKimg = Annotated[float, Bound(lambda value: 0 <= value < 1e9, _LONGEST_KIMG)]
Share = Annotated[float, Bound(lambda value: 0 <= value <= 1, "is a share of the run, in [0, 1]")]
Pictures = Annotated[int, Bound(lambda value: value >= 2, "at least 2 pictures are needed")]


def _check(condition: bool, message: str) -> None:
    if not condition:
        raise UserError(message)


@dataclass(frozen=True, kw_only=True)
class AdamConfig:
    """Adam (Kingma and Ba 2015); beta1 = 0 as in StyleGAN. `TrainConfig` checks the bounds."""

    lr: Positive = 0.002
    beta1: BelowOne = 0.0
    beta2: BelowOne = 0.99
    eps: Positive = 1e-8


@dataclass(frozen=True, kw_only=True)
class EmaConfig:
    """half_life_kimg of G's moving average; rampup caps the half-life at that fraction of the
    images seen so far.

    posthoc: relative lengths of further averages (`training.ema.PowerAverages`), such as 0.05 and
    0.1, kept beside every snapshot; `reconstruct_phema.py` makes snapshots of other lengths of them
    after training. Each costs memory for a copy of G, and half a copy on the disk at a snapshot.
    """

    half_life_kimg: Positive = 10.0
    rampup: Positive = 0.05
    posthoc: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        check_bounds(self, "ema.")
        for length in self.posthoc:
            _check(
                SHORTEST <= length < LONGEST,
                f"ema.posthoc: relative lengths lie between {SHORTEST} and {LONGEST:.4f}, got "
                f"{length}",
            )
        _check(
            len(set(self.posthoc)) == len(self.posthoc),
            f"ema.posthoc: names a length twice, got {list(self.posthoc)}",
        )


@dataclass(frozen=True, kw_only=True)
class TextConfig:
    """What happens to text features before the networks read them.

    noise: length of the Gaussian noise that training adds to a sentence, relative to the length of
        the sentence (0 = none): the fixed perturbation of LAFITE (Zhou et al. 2022). All losses see
        the noisy sentence, so G does not learn the training captions by heart. The noise in
        sampling is `generator.text_noise`.
    quantizer: vector quantisation of sentence and words (None = they stay as the encoder gives
        them).
    """

    noise: NotNegative = 0.0
    quantizer: VectorQuantizerConfig | None = None

    def __post_init__(self) -> None:
        check_bounds(self, "text.")


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """One run. Fields in `RESUMABLE` may differ when a run is resumed; all others must not.

    labels: how captions are made of class labels, where `data` is an archive of StyleGAN's tools.
    text_cache: keep the text features of the data set on disk, for frozen encoders whose pass
        takes longer than a read.
    resolution: side of the frame that samples and metrics show. D reads it, unless `patches` is on.
    patches: D reads patches of `patches.side` pixels of pictures of any size.
    start_resolution, start_kimg: the first `start_kimg` kimg train at that side, for a fraction of
        the cost. Real pictures are shrunk, and an implicit generator draws at their size. 0 = off.
    lr_decay: share of the run, at its end, over which both learning rates fall linearly to 5 %
        (0 = they stay).
    batch: images of a step over all ranks and accumulation rounds.
    batch_gpu: most images of one forward (None = batch / ranks). It changes only the loss terms
        that compare the images of a forward (training/gan_loss.py names them).
    tick_kimg: kimg between log lines.
    snapshot_ticks: ticks between snapshots, checkpoints and metrics.
    checkpoint_minutes: a checkpoint is also written at the first tick after this time.
    keep_latest: how many checkpoints are kept; with 1, there is none before a damaged one.
    metric_num: generated pictures of a metric during training.
    cuda_graph: whether the steps run as CUDA graphs, which start the kernels of a step much faster
        than Python does (docs/performance.md). auto = where that is possible; on = if it is not
        possible, the run does not start.
    precision: auto = bf16 where the device is fast at it (`torch_utils.precision`).
    nan_policy: a step whose gradients are not finite is never applied. At the next tick the run
        stops (stop), goes on (skip; 100 such steps in a row stop the run), or returns to the last
        checkpoint with fresh random streams (rollback).
    """

    recipe: str
    resolution: int
    data: str = ""
    labels: LabelCaptions = field(default_factory=LabelCaptions)
    text_encoder: str = "small"
    text_cache: bool = True
    text: TextConfig = field(default_factory=TextConfig)
    generator: GeneratorConfig
    discriminator: DiscriminatorConfig
    loss: LossConfig = field(default_factory=LossConfig)
    optimizer_g: AdamConfig = field(default_factory=AdamConfig)
    optimizer_d: AdamConfig = field(default_factory=AdamConfig)
    ema: EmaConfig = field(default_factory=EmaConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    patches: PatchConfig = WHOLE_PICTURES
    kimg: Kimg = 25000.0
    start_resolution: int = 0
    start_kimg: StartKimg = 0.0
    lr_decay: Share = 0.0
    batch: AtLeastOne = 64
    batch_gpu: Annotated[int | None, at_least(1)] = None
    seed: NotNegativeInt = 0
    mirror: bool = False
    tick_kimg: Kimg = 4.0
    snapshot_ticks: AtLeastOne = 50
    checkpoint_minutes: Positive = 15.0
    keep_latest: AtLeastOne = 2
    metrics: tuple[str, ...] = ()
    metric_num: Pictures = 1000
    init_from: str | None = None
    nan_policy: Literal["stop", "skip", "rollback"] = "stop"
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    cuda_graph: Literal["auto", "on", "off"] = "auto"
    ops: Literal["auto", "cuda", "ref"] = "auto"
    device: str = "auto"
    workers: NotNegativeInt = 2
    report_to: tuple[str, ...] = ("tensorboard",)

    def __post_init__(self) -> None:
        check_bounds(self)
        check_bounds(self.optimizer_g, "optimizer_g.")
        check_bounds(self.optimizer_d, "optimizer_d.")
        of_side = "patches.side" if self.patches.side else "resolution"
        _check(
            self.discriminator.resolution == self.judged_side,
            f"discriminator.resolution: {self.discriminator.resolution} differs from {of_side}; "
            f"add --set discriminator.resolution={self.judged_side}",
        )
        _check(
            self.patches.side <= self.resolution,
            f"patches.side: {self.patches.side} is larger than resolution = {self.resolution}; "
            f"take a smaller --patch, or add --set resolution={self.patches.side}",
        )
        _check(
            not self.patches.side or self.generator.any_view,
            f"patches.side: {self.generator.kind} draws the whole frame at one size only; train "
            "eidgan, creps, inrgan or cips on patches, or leave --patch out",
        )
        size = getattr(self.generator, "resolution", self.resolution)
        _check(
            size == self.resolution,
            f"generator.resolution: {size} differs from resolution; "
            f"add --set generator.resolution={self.resolution}",
        )
        _check(
            not self.loss.teacher or self.init_from is not None,
            "loss.teacher: G stays near the network that it starts from; give --init-from",
        )
        asks_text = self.loss.mismatch or self.loss.cong or self.loss.matching_aware_gp
        _check(
            self.reads_text or not asks_text,
            "loss.mismatch, loss.cong and loss.matching_aware_gp need a generator that is "
            "conditioned on text",
        )
        if isinstance(self.discriminator, FrozenFeaturesConfig):
            for name in ("r1_gamma", "matching_aware_gp"):
                _check(
                    not getattr(self.loss, name),
                    f"loss.{name}: a gradient penalty on frozen features would penalise the "
                    f"frozen network; set loss.{name}=0 with discriminator.kind=frozen_features",
                )
        _check(
            self.start_resolution != 0 or not self.start_kimg,
            "start_kimg: says how long start_resolution lasts; set both, or start_kimg=0",
        )
        if self.start_resolution:
            # A head halves its map until it is at most 4 wide; half of that still fits its kernels.
            _check(
                self.judged_side <= 2 * self.start_resolution <= 2 * self.judged_side,
                f"start_resolution: must lie between half of {of_side} = {self.judged_side} and "
                f"all of it, got {self.start_resolution}",
            )
            _check(
                isinstance(self.discriminator, FrozenFeaturesConfig)
                and not hasattr(self.generator, "resolution"),
                "start_resolution: needs a generator and a discriminator for any size, eidgan or "
                "creps with discriminator.kind=frozen_features",
            )
        if self.text.quantizer is not None:
            _check(
                not hasattr(self.generator, "quantizer"),
                f"text.quantizer: {self.generator.kind} has its own; set generator.quantizer",
            )
            _check(
                self.reads_text, "text.quantizer: the generator is unconditional, it reads no text"
            )
        if self.metrics:
            evaluations_named(self.metrics)
        unknown = set(self.report_to) - {"tensorboard", "wandb"}
        _check(
            not unknown, f"report_to: unknown {sorted(unknown)}; known: tensorboard, wandb, or none"
        )

    @property
    def reads_text(self) -> bool:
        """Whether the networks are conditioned on captions; if not, the run is unconditional."""
        return bool(self.generator.sentence_dim or self.generator.word_dim)

    @property
    def needs_encoder(self) -> bool:
        """Whether anything asks the text encoder, or its image tower, which ConD compares with."""
        return bool(self.reads_text or self.loss.cond or self.loss.cong)

    def without_text(self) -> TrainConfig:
        """The same run unconditionally: no text inputs, no loss term that needs an encoder."""
        generator = self.generator.with_text(0, 0)
        loss = replace(self.loss, mismatch=0.0, cond=0.0, cong=0.0, matching_aware_gp=0.0)
        return replace(self, generator=generator, loss=loss, text=TextConfig(), text_cache=False)

    @property
    def judged_side(self) -> int:
        """The side of the pictures or patches that D reads, in pixels."""
        return self.patches.side or self.resolution

    def side_at(self, images: int) -> int:
        """The side of the pictures of the step that begins after `images` images."""
        early = self.start_resolution and images < self.start_kimg * 1000
        return self.start_resolution if early else self.judged_side

    def lr_scale(self, images: int) -> float:
        """Factor of both learning rates after `images` images.

        Resuming with the same kimg changes nothing. A larger kimg starts the fall later.
        """
        if not self.lr_decay:
            return 1.0
        return min(1.0, max(MIN_LR_SCALE, (1 - images / (self.kimg * 1000)) / self.lr_decay))

    def micro_batches(self, world_size: int) -> tuple[int, int]:
        """Of a rank: images of one forward, and rounds of accumulation.

        Raises `UserError` where the batch cannot be divided evenly.
        """
        fitting = next(n for n in range(min(world_size, self.batch), 0, -1) if self.batch % n == 0)
        _check(
            self.batch % world_size == 0,
            f"--batch {self.batch}: must be a multiple of the {world_size} processes; "
            f"start {fitting}, or another number that divides {self.batch}",
        )
        share = self.batch // world_size
        size = min(self.batch_gpu or share, share)
        _check(
            share % size == 0, f"--batch-gpu {size}: must divide the {share} images of one process"
        )
        _check(
            size > 1 or not self.loss.mismatch,
            "--batch-gpu 1: loss.mismatch takes its texts from the other images of a "
            "forward, so it needs at least 2 (or --set loss.mismatch=0)",
        )
        _check(
            size * world_size > 1 or not (self.loss.cond or self.loss.cong),
            "--batch-gpu 1: loss.cond and loss.cong compare the images of a forward, so they "
            "need at least 2",
        )
        return size, share // size

    def resolved(self) -> TrainConfig:
        """The same run with the networks' text widths set to those of its text encoder.

        The encoder is not loaded for this. Raises `UserError` for an encoder that is not known.
        """
        widths = encoder_widths(self.text_encoder) if self.needs_encoder else (0, 0)
        return self.for_encoder(*widths)

    def for_encoder(self, sentence_dim: int, word_dim: int) -> TrainConfig:
        """The same run for a text encoder of these widths; 0, 0 for a run without an encoder."""
        generator = self.generator.with_text(sentence_dim, word_dim)
        place_dim = PLACE_DIM if self.patches.side else 0
        discriminator = self.discriminator.with_io(
            self.judged_side,
            generator.condition_dim(sentence_dim) + place_dim,
            sentence_dim if self.loss.cond else 0,
        )
        return replace(self, generator=generator, discriminator=discriminator)

    def build_generator(self) -> Generator:
        """The generator, behind `text.quantizer` where there is one."""
        if self.text.quantizer is None:
            return self.generator.build()
        # __post_init__ has refused a quantised generator here.
        assert not isinstance(self.generator, QuantizedConfig)
        return QuantizedConfig(
            generator=self.generator,
            quantizer=self.text.quantizer,
            text_noise=self.generator.text_noise,  # sampling reads that of the outer config
        ).build()


# The least factor, so that the last steps of a run still learn.
MIN_LR_SCALE = 0.05
# `Progress.dataset_hash` covers captions that come from labels.
RESUMABLE = (
    *("data", "labels", "kimg", "start_kimg", "batch_gpu", "tick_kimg", "snapshot_ticks"),
    *("checkpoint_minutes", "keep_latest", "metrics", "metric_num", "nan_policy", "ops", "device"),
    *("cuda_graph", "workers", "report_to", "generator.text_noise"),
)
