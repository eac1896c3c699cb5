"""The tables of docs/ops.md belong to the kernels' code, and no kernel of a forward spills.

If nvcc is installed, one file is compiled and must give the figures of the record.
"""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path

import pytest

from benchmarks import kernel_resources as script
from benchmarks.sass import counts, functions, resources
from dnnlib.files import read_json
from torch_utils.ops.build import OPS, BuildError, compiler_version, cuda_home

SASS = """
		Function : one
        /*0000*/                   LDG.E.128 R4, desc[UR4][R2.64] ;        /* 0x1 */
        /*0010*/                   LDG.E.U16 R8, [R2.64+0x10] ;             /* 0x1 */
        /*0020*/              @!P0 LDG.E.128.CONSTANT R12, [R2.64+0x20] ;   /* 0x1 */
        /*0030*/                   LDS R20, [R9+0x40] ;                     /* 0x1 */
        /*0040*/                   HMMA.16816.F32.BF16 R24, R4, R20, R24 ;  /* 0x1 */
        /*0050*/                   LDG.E.128 R4, [R2.64+0x30] ;             /* 0x1 */
        /*0060*/                   LDG.E.128 R28, [R2.64+0x30] ;            /* 0x1 */
        /*0070*/                   FADD R14, R15, R8 ;                      /* 0x1 */
        /*0080*/               @P0 BRA 0x50 ;                               /* 0x1 */
        /*0090*/                   EXIT ;                                   /* 0x1 */
		Function : two
        /*0000*/                   LDGSTS.E.BYPASS.128 [R7], desc[UR4][R2.64] ;  /* 0x1 */
        /*0010*/                   LDGSTS.E [R7+0x10], desc[UR4][R2.64+0x8] ;    /* 0x1 */
        /*0020*/                   DEPBAR.LE SB0, 0x0 ;                          /* 0x1 */
        /*0030*/                   LDGSTS.E [R7+0x10], desc[UR4][R2.64+0x8] ;    /* 0x1 */
        /*0040*/                   BRA 0x40;                                     /* 0x1 */
"""


def record_of_these_sources():
    now = script.source_hash()
    records = sorted(script.RESULTS.glob("*kernel-resources*.json"))
    found = [path for path in records if read_json(path)["sources"] == now]
    assert found, "kernels changed: run python -m benchmarks.kernel_resources (needs nvcc, no GPU)"
    return found[-1]


def test_the_page_holds_the_record_of_these_sources():
    page = script.PAGE.read_text(encoding="utf-8")
    records = record_of_these_sources(), script.recorded_before(page)
    assert script.updated(page, records) == page, "run python -m benchmarks.kernel_resources"


def test_no_forward_kernel_spills():
    rows = read_json(record_of_these_sources())["rows"]
    assert script.spills(rows) == []
    assert Counter(row["arch"] for row in rows) == dict.fromkeys(script.SHARED_KIB, len(rows) // 4)
    kernels = {
        "decode",
        "render",
        "backward",
        "lines",
        "weights",
        "weights_backward",
        "sum",
        "act",
        "act_backward",
    }
    assert {row["kernel"] for row in rows} == kernels
    forward = next(row for row in rows if row["kernel"] == "render" and row["dtype"] == "bf16")
    assert "`render`" in script.spills([forward | {"spilled": 4}])[0]


def test_the_hash_follows_code_and_not_comments(tmp_path):
    copy = tmp_path / "ops"
    shutil.copytree(OPS, copy)
    path = copy / "biline/cuda/pixel_mlp.h"
    text = path.read_text()
    path.write_text("// more\n" + text.replace("// ", "// no "))
    assert script.source_hash(copy) == script.source_hash()
    path.write_text(text.replace("kPad = 8", "kPad = 16"))
    assert script.source_hash(copy) != script.source_hash()


def test_loads_are_in_flight_until_their_value_is_named():
    one, two = functions(SASS).values()
    assert counts(one) == {
        "instructions": 10,
        "hmma": 1,
        "lds": 1,
        "loads": {16: 1, 128: 4},
        "in_flight": {16: 1, 128: 3},
        "loops": [{"instructions": 4, "loads": {128: 2}, "hmma": 0}],
    }
    assert counts(two)["in_flight"] == {32: 1, 128: 1} and counts(two)["loads"] == {32: 2, 128: 1}


def test_what_ptxas_says_is_read():
    said = """ptxas info    : Compiling entry function '_Z1a' for 'sm_90'
ptxas info    : Function properties for _Z1a
    152 bytes stack frame, 148 bytes spill stores, 160 bytes spill loads
ptxas info    : Used 255 registers, 152 bytes cumulative stack size, 1024 bytes smem
ptxas info    : Compiling entry function '_Z1b' for 'sm_90'
ptxas info    : Used 40 registers"""
    assert resources(said) == {
        "_Z1a": {"registers": 255, "spilled": 148, "stack": 152, "static_shared": 1024},
        "_Z1b": {"registers": 40, "spilled": 0, "stack": 0, "static_shared": 0},
    }


@pytest.mark.slow
def test_one_file_compiled_anew_gives_the_recorded_figures():
    try:
        version = compiler_version(cuda_home())
    except BuildError as problem:
        pytest.skip(str(problem))
    record = read_json(record_of_these_sources())
    if record["nvcc"] != ".".join(map(str, version)):
        pytest.skip(f"the record was made by nvcc {record['nvcc']}")
    wanted = {
        script.key(row): row
        for row in record["rows"]
        if row["kernel"] == "lines" and row["arch"] == "9.0"
    }
    rows = script.compiled(OPS / "biline/cuda/lines.cu", "9.0")
    assert {script.key(row) for row in rows} == set(wanted)
    for row in json.loads(json.dumps(rows)):
        assert {name: wanted[script.key(row)][name] for name in row} == row


def test_a_second_interruption_loses_no_row(tmp_path, monkeypatch):
    """Between the interruptions a.cu changes. The rows of the other files must be kept."""
    ptx = {"a": "a1", "b": "b1", "c": "c1", "d": "d1"}
    stops: list[str] = []

    def compiled(source, architecture, ops, known):
        if source.stem in stops:
            raise KeyboardInterrupt
        return known.get(ptx[source.stem], [{"ptx": ptx[source.stem]}])

    def interrupted(at):
        stops[:] = [at]
        with pytest.raises(KeyboardInterrupt):
            script.record(tmp_path, tmp_path / "r.json")
        return rows()

    def rows():
        return [row["ptx"] for row in read_json(tmp_path / "r.json")["rows"]]

    for name, value in {
        "compiled": compiled,
        "sources": lambda ops: [Path(f"{stem}.cu") for stem in "abcd"],
        "launches_program": lambda *_: tmp_path,
        "add_launches": lambda *_: None,
        "compiler_version": lambda _: (13, 0),
        "cuda_home": lambda: tmp_path,
        "RESULTS": tmp_path / "none",
        "SHARED_KIB": {"9.0": 227},
    }.items():
        monkeypatch.setattr(script, name, value)
    assert interrupted("d") == ["a1", "b1", "c1"]
    ptx["a"] = "a2"
    assert interrupted("c") == ["a2", "a1", "b1", "c1"]
    assert interrupted("b") == ["a2", "a1", "b1", "c1"]
    stops.clear()
    assert script.record(tmp_path, tmp_path / "r.json")["rows"]
    assert rows() == ["a2", "b1", "c1", "d1"]
