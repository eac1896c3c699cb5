"""The benchmark of huge pictures: one row a picture, whole or stopped."""

import signal

import pytest

from benchmarks.huge_pictures import TimeIsUp, measure
from torch_utils.tiled_files import TiffWriter


class Rows(list):
    put = list.append


@pytest.fixture(autouse=True)
def _alarm():
    before = signal.getsignal(signal.SIGPROF)
    yield
    signal.setitimer(signal.ITIMER_PROF, 0)
    signal.signal(signal.SIGPROF, before)


@pytest.mark.slow
def test_a_whole_picture_and_one_that_is_stopped(tmp_path, monkeypatch):
    rows = Rows()
    measure(600, "tiff", "eidgan-tiny", 1000, str(tmp_path), rows)
    assert rows[0]["complete"] and rows[0]["tiles"] == rows[0]["tiles_drawn"] == 4
    assert (
        rows[0]["file_mib"] > 0
        and 0 < rows[0]["base_mib"] <= rows[0]["peak_mib"] <= rows[0]["process_peak_mib"]
    )
    real, calls = TiffWriter.put, iter(range(3))

    def put(self, tile, pixels):
        if next(calls, None) is None:
            raise TimeIsUp
        real(self, tile, pixels)

    monkeypatch.setattr(TiffWriter, "put", put)
    measure(100_000, "tiff", "eidgan-tiny", 1000, str(tmp_path), rows)
    assert not rows[1]["complete"] and rows[1]["tiles_drawn"] == 3 and rows[1]["tiles"] == 196**2
    assert rows[1]["cpu_s_of_all"] == pytest.approx(rows[1]["cpu_s"] * 196**2 / 3, rel=0.05)
    assert rows[1]["extrapolated"] and rows[1]["file_mib"] is None
