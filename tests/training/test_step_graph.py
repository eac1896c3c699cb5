"""Steps that run as graphs equal steps that do not, here with a tape in place of CUDA graphs."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch

from configs import recipe
from datasets.patches import PatchConfig
from dnnlib.errors import UserError
from networks.discriminators import FrozenFeaturesConfig
from networks.generators import preset
from networks.layers.vector_quantizer import VectorQuantizerConfig
from networks.snapshot import Snapshot
from networks.text_encoders.hashed import HashedEncoder
from tests.networks.sizes import SMALL_FROZEN
from tests.training.tape import Tape
from torch_utils.training_stats import Collector
from training import step_graph
from training.augment import AugmentConfig
from training.config import TextConfig, TrainConfig
from training.loss_config import LossConfig
from training.micro_batch import HeldMicroBatch, MicroBatch
from training.step_graph import TOKENS, StepGraphs, obstacle, step_graphs
from training.trainer import Trainer

CPU, CUDA = torch.device("cpu"), torch.device("cuda", 0)
AUGMENT = AugmentConfig(mode="fixed", p=0.5)
# R1 and path length in every second step, style mixing, mismatched and noisy texts.
DEBUG = replace(
    recipe("debug"), augment=AUGMENT, text=TextConfig(noise=0.5), batch=4, nan_policy="skip"
)
# Fakes that both players share, IMLE, and a start at a smaller side.
FROZEN = replace(
    recipe("eidgan-flowers64"),
    resolution=32,
    text_encoder="hashed",
    generator=preset("eidgan-tiny"),
    discriminator=FrozenFeaturesConfig(resolution=32, **SMALL_FROZEN),
    start_resolution=16,
    start_kimg=0.016,
    batch=4,
    precision="fp32",
)


class Padded(HashedEncoder):
    """Texts of the length that graphs pad them to, so that sums have the same order."""

    def encode_text(self, captions):
        text = super().encode_text(captions).padded(TOKENS)
        if captions[0] == "not a number":
            text = replace(text, sentence=text.sentence * torch.nan)
        return text


def trainer_of(config: TrainConfig, tape: Tape | None = None) -> Trainer:
    encoder = Padded()
    trainer = Trainer(config.for_encoder(encoder.sentence_dim, encoder.word_dim), encoder, CPU)
    trainer.graphs = None if tape is None else StepGraphs(tape)
    return trainer


def steps(trainer: Trainer, number: int, first_caption: str = "a cat") -> None:
    """Steps whose pictures and captions depend on the images seen."""
    for _ in range(number):
        seen, side = trainer.progress.images, trainer.config.resolution
        draws = torch.Generator().manual_seed(seen)
        images = torch.randint(256, (4, 3, side, side), generator=draws, dtype=torch.uint8)
        boxes = None
        if trainer.config.patches.side:
            shown = [trainer.config.patches.draw((128, 128), 0, seen + i) for i in range(4)]
            boxes = torch.tensor(shown, dtype=torch.float64)
        captions = [first_caption, "red " * (seen % 12), "a dog", f"number {seen}"]
        trainer.step(images, captions, boxes)


def tensors(trainer: Trainer) -> dict[str, torch.Tensor]:
    """Everything that a step changes."""
    networks = (trainer.generator, trainer.discriminator, trainer.ema.model)
    values = [value for network in networks for value in network.state_dict().values()]
    players = (trainer.player_d, trainer.player_g)
    values += [p.skipped for p in players]
    for player in players:
        for state in player.optimizer.state_dict()["state"].values():
            values += [state["step"], state["exp_avg_sq"]]
    values += [trainer.augment.total, trainer.augment.p, trainer.loss.path_length_mean]
    return {str(i): value.clone() for i, value in enumerate(values)}


def assert_equal(graphed: Trainer, plain: Trainer) -> None:
    found, expected = tensors(graphed), tensors(plain)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert torch.equal(found[name].nan_to_num(), value.nan_to_num()), name
    assert graphed.collector.flush() == plain.collector.flush()


def test_steps_with_graphs_equal_steps_without():
    """With a step that is skipped, and a return to an earlier state while the graphs exist."""
    tape = Tape()
    graphed, plain = trainer_of(DEBUG, tape), trainer_of(DEBUG)
    for trainer in (graphed, plain):
        steps(trainer, 7)
    assert (tape.captures, tape.replays) == (5, 8)  # the kinds have three phases and two
    assert_equal(graphed, plain)
    for trainer in (graphed, plain):
        kept = copy.deepcopy({name: x.state_dict() for name, x in trainer.objects.items()})
        steps(trainer, 1, "not a number")
        assert int(trainer.player_d.skipped) == int(trainer.player_g.skipped_in_a_row) == 1
        steps(trainer, 1)
        trainer.collector.flush()
        for name, part in trainer.objects.items():
            part.load_state_dict(kept[name])
        trainer.progress.rollbacks += 1
        steps(trainer, 2)
    assert tape.captures == 5
    assert_equal(graphed, plain)


def test_shared_fakes_go_from_one_graph_to_the_next():
    tape = Tape()
    graphed, plain = trainer_of(FROZEN, tape), trainer_of(FROZEN)
    for trainer in (graphed, plain):
        steps(trainer, 8)  # the side changes after four
    assert (tape.captures, tape.replays) == (4, 8)
    assert_equal(graphed, plain)


@pytest.mark.parametrize("teacher", [0.0, 30.0])
def test_a_graph_takes_over_the_places_of_patches(teacher, tmp_path):
    config = replace(
        FROZEN,
        patches=PatchConfig(side=32),
        generator=replace(FROZEN.generator, samples=2),
        loss=replace(FROZEN.loss, teacher=teacher, imle=0.0 if teacher else 1.0),
        init_from=str(tmp_path / "network-snapshot-000000"),
    )
    generator = config.for_encoder(64, 64).build_generator()
    Snapshot(generator, "hashed", 32).save_pretrained(tmp_path / "network-snapshot-000000")
    tape = Tape()
    graphed, plain = trainer_of(config, tape), trainer_of(config)
    for trainer in (graphed, plain):
        steps(trainer, 8)
    assert (tape.captures, tape.replays) == (4, 8)  # the side changes after four
    assert_equal(graphed, plain)


def test_a_new_process_captures_again_and_goes_on():
    graphed, plain, resumed = trainer_of(FROZEN, Tape()), trainer_of(FROZEN), trainer_of(FROZEN)
    steps(graphed, 4)
    tape = Tape()
    resumed.graphs = StepGraphs(tape)
    for name, part in resumed.objects.items():
        part.load_state_dict(graphed.objects[name].state_dict())
    steps(resumed, 4)
    steps(plain, 4)
    plain.collector.flush()
    steps(plain, 4)
    assert tape.captures == 2
    assert_equal(resumed, plain)


def test_steps_of_too_many_kinds_run_without_graphs(monkeypatch):
    monkeypatch.setattr(step_graph, "MOST_PLANS", 1)
    tape = Tape()
    graphed, plain = trainer_of(DEBUG, tape), trainer_of(DEBUG)
    for trainer in (graphed, plain):
        steps(trainer, 6)
    assert graphed.graphs is not None and len(graphed.graphs.plans) == 1
    assert tape.captures == 3  # of the first kind; between its steps are others without a graph
    assert_equal(graphed, plain)


def test_a_capture_that_fails_names_the_flag():
    class Broken(Tape):
        def capture(self, work):
            raise RuntimeError("out of memory")

    trainer = trainer_of(FROZEN, Broken())
    steps(trainer, 2)
    with pytest.raises(UserError, match=r"--cuda-graph: .*out of memory.*--cuda-graph off"):
        steps(trainer, 1)


def micro_of(seen: int) -> MicroBatch:
    images = torch.full((2, 3, 4, 4), float(seen)).contiguous(memory_format=torch.channels_last)
    text = HashedEncoder().encode_text([f"picture {seen}"] * 2)
    return MicroBatch(images, text, slice(2, 4), 8, (0, "step", seen, 0))


def test_a_held_micro_batch_takes_over_numbers_at_its_addresses():
    held = HeldMicroBatch(micro_of(0))

    def contents(micro):
        return [
            *(micro.images, micro.text.sentence, micro.text.words, micro.text.mask),
            *(micro.normal("z", (3,)), micro.uniform("cut", 2), micro.large_normal("path", (2, 2))),
        ]

    contents(held)[4].zero_()  # a caller may change what it got
    places = [held.images.data_ptr(), *(x.data_ptr() for x in held._draws.values())]
    for seen in (8, 16):
        held.refill(micro_of(seen))
        for found, expected in zip(contents(held), contents(micro_of(seen)), strict=True):
            assert torch.equal(found, expected) and found.stride() == expected.stride()
    assert places == [held.images.data_ptr(), *(x.data_ptr() for x in held._draws.values())]


def test_padded_texts_have_masked_zeros():
    text = HashedEncoder().encode_text(["one two", "one"])
    padded = text.padded(TOKENS)
    assert padded.words.shape == (2, TOKENS, 64) and padded.mask.shape == (2, TOKENS)
    assert torch.equal(padded.words[:, :3], text.words) and not padded.words[:, 3:].any()
    assert torch.equal(padded.mask[:, :3], text.mask) and not padded.mask[:, 3:].any()
    assert padded.padded(TOKENS).words.shape == (2, TOKENS, 64)
    generator = preset("eidgan-tiny").with_text(64, 64).build()
    z = torch.randn(2, *generator.latent_shape)
    torch.testing.assert_close(generator.mapping(z, padded), generator.mapping(z, text))


def test_merged_collectors_hold_the_means_of_both():
    first, second = Collector(), Collector()
    first.report("a", torch.tensor([1.0, 2.0]))
    for collector in (first, second):
        collector.report("b", torch.tensor([4.0]))
    second.report("a", torch.tensor([6.0]))
    second.report("b", torch.tensor([1.0, torch.inf]), finite_only=True)
    first.merge(second)
    assert first.flush() == {"a": 3.0, "b": 3.0}
    assert second.flush() == {"b": 2.5, "a": 6.0}


@pytest.mark.parametrize(
    "changes, device, rounds, reason",
    [
        ({}, CPU, 1, "cpu devices have no CUDA graphs"),
        ({}, CUDA, 2, "--batch-gpu"),
        (
            {
                "patches": PatchConfig(side=32),
                "loss": LossConfig(r1_gamma=0.0),
                "generator": replace(preset("cipsclip-small"), resolution=32),
            },
            CUDA,
            1,
            "cips draws patches one by one",
        ),
        ({"loss": LossConfig(cong=1.0)}, CUDA, 1, "image tower"),
        ({"text": TextConfig(quantizer=VectorQuantizerConfig())}, CUDA, 1, "code books"),
    ],
)
def test_what_cannot_be_captured_is_said(changes, device, rounds, reason):
    config = replace(recipe("debug"), **changes).for_encoder(64, 64)
    generator = config.build_generator()
    assert reason in (obstacle(config, device, rounds, generator) or "")
    graphs, note = step_graphs(replace(config, cuda_graph="auto"), device, rounds, generator)
    assert graphs is None and (reason in note) == (device == CUDA)
    assert step_graphs(replace(config, cuda_graph="off"), device, rounds, generator) == (None, "")
    with pytest.raises(UserError, match="--cuda-graph on: "):
        step_graphs(replace(config, cuda_graph="on"), device, rounds, generator)


@pytest.mark.parametrize("patches", [PatchConfig(), PatchConfig(side=32)])
def test_the_debug_recipe_can_be_captured(patches):
    config = replace(recipe("debug"), patches=patches).for_encoder(64, 64)
    assert obstacle(config, CUDA, 1, config.build_generator()) is None
