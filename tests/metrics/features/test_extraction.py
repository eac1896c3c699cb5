"""Passes of pictures through detectors: order, batches, threads, ranks."""

import json

import numpy as np
import pytest
import torch

from metrics.features.detectors import load_detector
from metrics.features.extraction import extract
from metrics.features.moments import moments_of
from metrics.features.wants import MOMENTS, VECTORS
from metrics.measures.frechet import frechet_distance
from metrics.pictures.reading import Compute, read_batches
from tests.commands.forked import start_ranks

CPU = torch.device("cpu")


def picture(index):
    return torch.randint(
        0, 256, (3, 9, 9), dtype=torch.uint8, generator=torch.Generator().manual_seed(index)
    )


BOTH = VECTORS | MOMENTS


def run(total=23, batch_size=5, num_threads=2, wants=BOTH):
    def batches(share):
        return read_batches(picture, share, Compute(CPU, batch_size), "", num_threads)

    return extract(total, batches, {"toy": load_detector("toy", CPU)}, {"toy": wants})["toy"]


def test_vectors_come_in_picture_order_for_any_batch_and_thread_count():
    first = run(batch_size=1, num_threads=1)
    expected = load_detector("toy", CPU)(torch.stack([picture(i) for i in range(23)])).numpy()
    assert np.allclose(first.vectors, expected, atol=1e-6) and first.vectors.dtype == np.float32
    for batch_size, threads in ((7, 1), (7, 4), (64, 3)):
        again = run(batch_size=batch_size, num_threads=threads)
        assert np.allclose(again.vectors, first.vectors, atol=1e-5)
        assert np.allclose(again.moments.covariance, first.moments.covariance, rtol=1e-4, atol=1e-8)


def test_only_what_is_wanted_is_kept():
    moments, vectors = run(wants=MOMENTS), run(wants=VECTORS)
    assert moments.vectors is None and vectors.moments is None
    assert np.allclose(moments.moments.mean, vectors.get_moments().mean)
    assert moments.count == vectors.count == 23


def test_progress_counts_pictures_and_errors_come_through():
    seen = []
    for _ in read_batches(
        picture, range(1, 12, 2), Compute(CPU, 4, lambda *state: seen.append(state)), "x", 2
    ):
        pass
    assert seen == [("x", 4, 6), ("x", 6, 6)]

    def broken(index):
        raise OSError(f"picture {index}")

    with pytest.raises(OSError, match="picture 0"):
        list(read_batches(broken, range(9), Compute(CPU, 2), "", 2))


RANK = """
import json, sys, torch
from tests.metrics.features.test_extraction import run
from torch_utils.distributed import process_group
torch.set_num_threads(1)
with process_group(torch.device("cpu")):
    found = run(total=int(sys.argv[1]))
    moments = [found.moments.mean.tolist(), found.moments.covariance.tolist()]
    print(json.dumps([found.vectors.astype(float).tolist(), *moments]))
"""


@pytest.mark.slow
@pytest.mark.multi_process
@pytest.mark.parametrize("total", [23, 3])
def test_two_processes_give_the_moments_of_one(total, tmp_path):
    (tmp_path / "rank.py").write_text(RANK)
    ranks = start_ranks(tmp_path / "rank.py", total)
    outputs = [json.loads(rank.wait(timeout=120).stdout) for rank in ranks]
    one = run(total=total)
    assert outputs[0] == outputs[1]
    wanted = one.vectors, one.moments.mean, one.moments.covariance
    for found, expected in zip(outputs[0], wanted, strict=True):
        assert np.allclose(found, expected, rtol=1e-5, atol=1e-7)
    other = moments_of(one.vectors[::-1] + 0.1)
    two = type(one.moments)(total, np.array(outputs[0][1]), np.array(outputs[0][2]))
    assert frechet_distance(two, other) == pytest.approx(
        frechet_distance(one.moments, other), rel=1e-5
    )
