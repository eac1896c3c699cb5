"""Training from WebDataset shards: order, resuming, retries, pipes, samples left out."""

from __future__ import annotations

import itertools
import time
from dataclasses import replace

import pytest
import torch
from PIL import Image

from configs import recipe
from datasets import shard_stream
from datasets.patches import PatchConfig
from datasets.shard_loader import ShardDataset, ShardPosition, shard_batches
from datasets.shard_stream import Cursor, Shards, is_shards
from datasets.stylegan import LabelCaptions
from dnnlib.errors import UserError
from tests.datasets.picture_bytes import saved, tarred
from training.checkpoint import read_newest
from training.launch import open_dataset, run

NUM_SHARDS, NUM_SAMPLES = 3, 7


def picture(value, size=(10, 8)):
    return saved(Image.new("RGB", size, (value, 0, 255 - value)), "PNG")


def write(path, first, size=(10, 8)):
    members = []
    for number in range(first, first + NUM_SAMPLES):
        members += [
            (f"{number:04d}.png", picture(number, size)),
            (f"{number:04d}.txt", b"%d" % number),
        ]
    tarred(path, *members)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shards")
    for number in range(NUM_SHARDS):
        write(folder / f"{number:02d}.tar", 10 * number)
    return folder


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(shard_stream, "BLOCK", 4)
    monkeypatch.setattr(shard_stream, "WAITS_S", (0.0, 0.0))


def numbers(stream, count):
    found = list(itertools.islice(stream, count))
    return [int(sample.captions[0]) for _, sample in found], [cursor for cursor, _ in found]


def test_a_stream_reads_whole_shards_and_continues_after_any_cursor(folder):
    shards = Shards(str(folder), True, 8)
    assert shards.urls == [str(folder / f"{n:02d}.tar") for n in range(NUM_SHARDS)]
    order, cursors = numbers(shards.stream(Cursor(), 1, "a"), 50)
    for start in range(0, 49, NUM_SAMPLES):
        part = order[start : start + NUM_SAMPLES]
        tens = part[0] // 10 * 10
        assert sorted(part) == list(range(tens, tens + NUM_SAMPLES))[: len(part)] or len(part) < 7
    assert order[:NUM_SAMPLES] != sorted(order[:NUM_SAMPLES])
    assert {number // 10 for number in order} == {0, 1, 2}
    for place in (0, 3, 6, 7, 20):
        assert numbers(shards.stream(cursors[place], 1, "a"), 10)[0] == order[place + 1 :][:10]
    assert numbers(shards.stream(Cursor(), 1, "b"), 50)[0] != order


def test_a_depth_map_is_not_trained_on(tmp_path):
    tarred(
        tmp_path / "0.tar",
        ("0.depth.png", picture(0)),
        ("0.png", picture(200)),
        ("0.txt", b"a red square"),
    )
    _, sample = next(Shards(str(tmp_path), True, 8).stream(Cursor()))
    assert sample.image[:, 0, 0].tolist() == [200, 0, 55]


def batches(dataset, position, start_images=0, **options):
    return shard_batches(
        dataset, position, global_batch=4, seed=3, mirror=True, start_images=start_images, **options
    )


def take(stream, position, count):
    found = list(itertools.islice(stream, count))
    for batch in found:
        position.passed(batch.stream, batch.cursor)
    return torch.cat([batch.images for batch in found]), sum((b.captions for b in found), [])


@pytest.mark.filterwarnings("ignore:This DataLoader will create")
@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.multi_process)])
def test_resuming_continues_exactly_and_ranks_differ(folder, workers):
    dataset = ShardDataset(str(folder), True, 8)
    options = {"num_workers": workers, "multiprocessing_context": "fork"}
    whole = ShardPosition(0, 2, workers)
    images, captions = take(batches(dataset, whole, **options), whole, 9)
    first = ShardPosition(0, 2, workers)
    take(batches(dataset, first, **options), first, 5)
    first._all = [first.cursors, first.cursors]  # as `gather` finds them on two ranks
    second = ShardPosition(0, 2, workers)
    second.load_state_dict(first.state_dict())
    assert second.fits
    rest = take(batches(dataset, second, start_images=20, **options), second, 4)
    assert torch.equal(rest[0], images[10:]) and rest[1] == captions[10:]
    assert second.cursors == whole.cursors
    other = ShardPosition(1, 2, workers)
    assert take(batches(dataset, other, **options), other, 9)[1] != captions


def test_another_number_of_processes_begins_new_streams():
    one = ShardPosition(0, 1, 1)
    one.passed(0, Cursor(2, 5))
    for other in (ShardPosition(0, 1, 2), ShardPosition(1, 2, 1)):
        other.load_state_dict(one.state_dict())
        assert not other.fits
        other.begin(40)
        assert other.cursors == [Cursor()] * other.num_streams and other.since == 40


def test_patches_are_cut_from_pictures_of_any_size(folder):
    dataset, position = ShardDataset(str(folder), False, 8), ShardPosition(0, 1, 0)
    patches = PatchConfig(side=8, scale=(1.0, 1.0))
    batch = next(batches(dataset, position, patches=patches))
    assert batch.images.shape == (4, 3, 8, 8) and batch.boxes.shape == (4, 3)
    assert batch.captions == [""] * 4


def test_patches_are_resized_by_their_filter(tmp_path):
    """A picture of two halves: Lanczos goes beyond their two values, Hamming does not."""
    halves = Image.new("RGB", (20, 20), (100, 100, 100))
    halves.paste((200, 200, 200), (9, 0, 20, 20))
    tarred(tmp_path / "0.tar", ("0.png", saved(halves, "PNG")), ("0.txt", b"two halves"))
    dataset, ranges = ShardDataset(str(tmp_path), False, 8), {}
    for name in ("lanczos", "hamming"):
        patches = PatchConfig(side=8, scale=(1.0, 1.0), filter=name)
        images = next(batches(dataset, ShardPosition(0, 1, 0), patches=patches)).images
        ranges[name] = int(images.min()), int(images.max())
    assert ranges["hamming"] == (100, 200)
    assert ranges["lanczos"][0] < 100 and ranges["lanczos"][1] > 200


def test_a_shard_that_comes_late_is_read_and_one_that_never_comes_is_named(
    tmp_path, monkeypatch, capsys
):
    path = tmp_path / "late.tar"
    with pytest.raises(UserError, match="late.tar: no .tar files there"):
        Shards(str(path), True, 8)
    write(path, 0)
    shards = Shards(str(path), True, 8)
    path.unlink()
    monkeypatch.setattr(time, "sleep", lambda seconds: write(path, 0))
    assert len(numbers(shards.stream(Cursor(), 0), 7)[0]) == 7
    assert f"{path}: No such file or directory; trying again" in capsys.readouterr().err
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(UserError, match="late.tar: cannot be read, tried 3 times"):
        numbers(Shards(str(path), True, 8).stream(Cursor(), 0), 100)


def test_a_read_that_fails_in_the_middle_repeats_no_sample(folder, monkeypatch):
    whole, failures = shard_stream._once, [2, 5]

    def fails(url):
        for number, sample in enumerate(whole(url)):
            if failures and number == failures[0]:
                failures.pop(0)
                raise OSError("a disk that came loose")
            yield sample

    expected = numbers(Shards(str(folder), True, 8).stream(Cursor(), 0), 10)
    monkeypatch.setattr(shard_stream, "_once", fails)
    assert numbers(Shards(str(folder), True, 8).stream(Cursor(), 0), 10) == expected
    assert not failures


def test_a_folder_with_pictures_is_no_folder_of_shards(tmp_path):
    (tmp_path / "a.tar").touch()
    assert is_shards(str(tmp_path))
    (tmp_path / "b.jpg").touch()
    assert not is_shards(str(tmp_path)) and not is_shards(str(tmp_path / "missing"))


@pytest.mark.slow
def test_pipes_give_what_files_give_and_fail_by_name(folder, monkeypatch):
    pytest.importorskip("webdataset")
    files, pipes = Shards(f"{folder}/{{00..02}}.tar", True, 8), f"pipe:cat {folder}/{{00..02}}.tar"
    assert is_shards(pipes) and is_shards(str(folder)) and not is_shards(str(folder.parent))
    piped = Shards(pipes, True, 8)
    assert piped.urls == [f"pipe:cat {url}" for url in files.urls]
    assert numbers(piped.stream(Cursor(), 5), 20) == numbers(files.stream(Cursor(), 5), 20)
    # The zeros behind the end mark come late: the command must not fail because nobody reads them.
    slow = f"set -e; cat {folder}/00.tar; sleep 0.2; head -c 20480 /dev/zero"
    assert len(numbers(Shards(f"pipe:{slow}", True, 8).stream(Cursor(), 5), 20)[0]) == 20
    for command, reason in (
        (f"cat {folder}/00.tar; exit 3", "exit 3"),
        (f"head -c 3000 {folder}/00.tar", "cut short|end mark|unexpected end"),
    ):
        with pytest.raises(UserError, match=f"tried 3 times.*({reason})"):
            numbers(Shards(f"pipe:{command}", True, 8).stream(Cursor(), 5), 20)
    monkeypatch.setattr(shard_stream, "TIMEOUT_S", 0.1)
    with pytest.raises(UserError, match="no byte for 0.1 s"):
        next(Shards("pipe:sleep 9", True, 8).stream(Cursor(), 5))


def test_samples_that_cannot_be_used_are_counted_and_a_shard_of_them_is_an_error(tmp_path):
    good = [("5.png", picture(5)), ("5.json", b'{"caption": "5"}')]
    bad = [
        ("../../1.png", b"no picture"),
        ("../../1.txt", b"1"),
        ("2.txt", b"2"),
        ("3.png", picture(3)),
        ("4.png", picture(4, (9, 7))),
        ("4.txt", b"4"),
    ]
    tarred(tmp_path / "a.tar", *bad, *good)
    stream = Shards(str(tmp_path), True, 8).stream(Cursor(), 0)
    found = [sample for _, sample in itertools.islice(stream, 20)]
    assert {sample.captions for sample in found} == {("5",)}
    assert sum(sample.left_out for sample in found) in range(4 * 19, 4 * 20 + 1)
    tarred(tmp_path / "a.tar", *bad)
    with pytest.raises(UserError, match="a.tar: no sample of this shard can be used"):
        next(Shards(str(tmp_path), True, 8).stream(Cursor(), 0))


@pytest.mark.slow
def test_a_run_on_shards_resumes_exactly(tmp_path):
    for number in range(2):
        write(tmp_path / f"{number}.tar", 10 * number, (32, 32))
    config = replace(recipe("debug"), data=str(tmp_path / "{0..1}.tar"), batch=4, report_to=())
    long, short = replace(config, kimg=0.012), replace(config, kimg=0.008)
    assert run(long, tmp_path / "whole")
    assert run(short, tmp_path / "parts") and run(long, tmp_path / "parts")
    states = [read_newest(tmp_path / name) for name in ("whole", "parts")]
    whole, parts = (state for found in states if found for state in found[1:])
    assert whole["shards"] == parts["shards"] and whole["shards"]["cursors"] != [[[0, 0]]]
    for network in ("generator", "discriminator"):
        for name, value in whole[network].items():
            assert torch.equal(value, parts[network][name]), name
    records = (tmp_path / "whole/stats.jsonl").read_text()
    assert '"left_out": 0' in records
    with pytest.raises(UserError, match="--metrics kid_lite2: metrics compare with pictures of a"):
        run(replace(long, metrics=("kid_lite2",)), tmp_path / "other")


def test_captions_of_class_labels_are_refused_for_shards(folder):
    config = replace(
        recipe("debug"), data=str(folder), labels=LabelCaptions(template="a photo of a {}")
    )
    with pytest.raises(
        UserError, match="--caption-template: the shards of --data .* have no class"
    ):
        open_dataset(config)


def test_a_missing_brace_in_the_names_of_shards():
    pytest.importorskip("webdataset")
    with pytest.raises(UserError, match="--data cc/{0000"):
        Shards("cc/{0000..0331.tar", True, 8)
