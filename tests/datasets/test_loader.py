"""Sampler and loader: same pictures for (seed, position), ranks, resuming, workers."""

import itertools
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from datasets.archive import Picture, write_archive
from datasets.loader import TrainingDraws, training_batches, worker_errors
from datasets.sampler import InfiniteSampler, item_at
from datasets.text_image import TextImageDataset
from dnnlib.errors import UserError

NUM_IMAGES = 23


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    rng = np.random.default_rng(2)
    path = tmp_path_factory.mktemp("loader") / "a.zip"
    images = rng.integers(0, 256, (NUM_IMAGES, 8, 8, 3), dtype=np.uint8)
    captions = [tuple(f"{i}/{k}" for k in range(1 + i % 4)) for i in range(NUM_IMAGES)]
    items = [Picture(images[i], str(i), captions[i], "train") for i in range(NUM_IMAGES)]
    write_archive(path, items, (8, 8), {})
    return path


@pytest.fixture(scope="module")
def dataset(archive):
    return TextImageDataset(archive)


def take(batches, count):
    found = list(itertools.islice(batches, count))
    captions = [caption for batch in found for caption in batch.captions]
    return torch.cat([b.images for b in found]), captions, torch.cat([b.indices for b in found])


def assert_equal(a, b):
    assert torch.equal(a[0], b[0]) and a[1] == b[1] and torch.equal(a[2], b[2])


def test_every_epoch_is_a_permutation():
    epochs = [[item_at(e * 10 + i, 10, seed=3) for i in range(10)] for e in range(4)]
    assert all(sorted(epoch) == list(range(10)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 4
    assert [item_at(i, 10, seed=4) for i in range(10)] != epochs[0]


def test_item_at_does_not_depend_on_the_order_of_questions():
    forward = [item_at(i, 7, seed=0) for i in range(50)]
    assert [item_at(i, 7, seed=0) for i in reversed(range(50))] == forward[::-1]


@pytest.mark.parametrize("world_size", [1, 2, 4])
def test_ranks_share_each_global_batch_in_blocks(world_size):
    parts = [iter(InfiniteSampler(8, r, world_size, start_images=5)) for r in range(world_size)]
    for step in range(3):
        positions = [next(part) for part in parts for _ in range(8 // world_size)]
        assert positions == list(range(5 + 8 * step, 13 + 8 * step))


def test_batch_must_be_divisible(dataset):
    with pytest.raises(
        UserError, match="batch 6: must be a positive multiple of the number of processes, 4"
    ):
        training_batches(dataset, global_batch=6, seed=0, world_size=4)


def test_resuming_continues_the_unbroken_run(dataset):
    whole = take(training_batches(dataset, global_batch=4, seed=1, mirror=True), 12)
    resumed = take(
        training_batches(dataset, global_batch=4, seed=1, mirror=True, start_images=20), 7
    )
    assert_equal(tuple(part[20:] for part in whole), resumed)


def test_ranks_together_see_what_one_process_sees(dataset):
    whole = next(training_batches(dataset, global_batch=8, seed=1, mirror=True))
    options = {"global_batch": 8, "seed": 1, "mirror": True, "world_size": 2}
    halves = [next(training_batches(dataset, **options, rank=rank)) for rank in (0, 1)]
    assert torch.equal(whole.images, torch.cat([half.images for half in halves]))
    assert whole.captions == halves[0].captions + halves[1].captions and len(halves[0]) == 4


@pytest.mark.slow
@pytest.mark.multi_process
@pytest.mark.filterwarnings("ignore:This DataLoader will create")
@pytest.mark.parametrize("context, workers", [("fork", 4), ("spawn", 2)])
def test_workers_read_what_no_workers_read(dataset, context, workers):
    dataset[0]  # the parent has an open handle when the workers start
    options = {"global_batch": 6, "seed": 5, "mirror": True}
    alone = take(training_batches(dataset, **options), 20)
    together = take(
        training_batches(dataset, **options, num_workers=workers, multiprocessing_context=context),
        20,
    )
    assert_equal(alone, together)


DIES = """
import multiprocessing, sys
from datasets.loader import training_batches
from datasets.text_image import TextImageDataset

def read_and_die():
    batches = training_batches(
        TextImageDataset(sys.argv[1]), global_batch=6, seed=0, num_workers=1
    )
    next(batches)
    raise RuntimeError("a bug")

if __name__ == "__main__":
    if sys.argv[2] == "child":
        child = multiprocessing.get_context("spawn").Process(target=read_and_die)
        child.start()
        child.join()
        sys.exit(child.exitcode)
    read_and_die()
"""


@pytest.mark.slow
@pytest.mark.multi_process
@pytest.mark.parametrize("where", ["main", "child"])
def test_a_process_that_dies_of_a_bug_does_not_wait_for_its_workers(archive, tmp_path, where):
    """Workers ignore SIGTERM, and the traceback keeps the loader alive."""
    script = tmp_path / "dies.py"
    script.write_text(DIES)
    done = subprocess.run(
        [sys.executable, str(script), str(archive), where],
        env={"PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 1 and "RuntimeError: a bug" in done.stderr


def test_draws_are_pure_and_vary(dataset):
    draws = TrainingDraws(dataset, seed=9, mirror=True)
    first = [draws[i] for i in range(300)]
    for i in (299, 7, 120):
        assert (
            torch.equal(draws[i]["image"], first[i]["image"])
            and draws[i]["caption"] == first[i]["caption"]
        )
    for draw in first:
        assert draw["caption"] in dataset.captions(draw["index"])
    index = 3  # has four captions
    assert {d["caption"] for d in first if d["index"] == index} == set(dataset.captions(index))
    flips = [not torch.equal(d["image"], dataset[d["index"]].image) for d in first]
    assert 100 < sum(flips) < 200
    flipped = flips.index(True)
    assert torch.equal(first[flipped]["image"].flip(-1), dataset[first[flipped]["index"]].image)


def test_mirror_changes_no_caption_and_no_order(dataset):
    plain, mirrored = (
        take(training_batches(dataset, global_batch=5, seed=1, mirror=m), 5) for m in (False, True)
    )
    assert (
        plain[1] == mirrored[1]
        and torch.equal(plain[2], mirrored[2])
        and not torch.equal(plain[0], mirrored[0])
    )


def test_global_random_state_is_untouched(dataset):
    before = torch.get_rng_state()
    next(
        training_batches(
            dataset,
            global_batch=4,
            seed=0,
            mirror=True,
            num_workers=1,
            multiprocessing_context="fork",
        )
    )
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_damaged_picture_is_one_line_even_from_a_worker(tmp_path, num_workers):
    path = tmp_path / "set"
    write_archive(path, [Picture(np.zeros((8, 8, 3), np.uint8), "a", ("a",), "train")], (8, 8), {})
    dataset = TextImageDataset(path)
    (path / "00000/img00000000.png").write_bytes(b"no picture")
    batches = training_batches(
        dataset, global_batch=2, seed=0, num_workers=num_workers, multiprocessing_context="fork"
    )
    with pytest.raises(UserError, match="img00000000.png is not a readable picture") as caught:
        next(batches)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "text, end",
    [
        ("DataLoader worker (pid 7) is killed by signal: Killed. ", "was killed by signal: Killed"),
        (
            "DataLoader worker (pid 7) exited unexpectedly with exit code 1. Details are lost due "
            "to multiprocessing. Rerunning with num_workers=0 may give better error trace.",
            "exited unexpectedly",
        ),
        ("DataLoader worker (pid(s) 7, 8) exited unexpectedly", "exited unexpectedly"),
    ],
)
def test_a_loader_process_that_died_is_one_line(text, end):
    """PyTorch raises these texts in a signal handler; benchmarks/faults kills real workers."""
    line = f"a process that loads pictures {end}; if memory is short, start fewer of them"
    with pytest.raises(UserError, match=line), worker_errors():
        raise RuntimeError(text)
    with pytest.raises(RuntimeError, match="^another$"), worker_errors():
        raise RuntimeError("another")
