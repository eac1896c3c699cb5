"""Run the parts of the GPU check in turn, each with a time limit, and write the results so far.

The outcome of a part is one of: passed; failed; cut off (by the time limit); missing (this machine
lacks a tool or a package); interrupted (by SIGINT or SIGTERM); not run.
"""

from __future__ import annotations

import datetime
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from benchmarks.gpu_check.findings import Findings
from benchmarks.gpu_check.needs import ROOT, lacking
from dnnlib.files import read_json, write_json
from dnnlib.ownership import json_with

SHOWN = 8  # failures or notes of a part that are printed; the file holds all


@dataclass(frozen=True)
class Part:
    """One command of the check.

    what: description for --list. limit_s: time limit in seconds.
    command: its words; `Runner` replaces names in braces.
    read: computes the findings from the part's JSON record (None without one) and its output lines.
    needs: packages and tools that it requires, see `lacking`. environment: variables to set.
    """

    name: str
    what: str
    limit_s: int
    command: tuple[str, ...]
    read: Callable[[dict[str, Any] | None, Sequence[str]], Findings]
    needs: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)


class Runner:
    """Runs parts and keeps their results.

    prefix: a part's record is PREFIX-<part>.json, the summary PREFIX-gpu-check.json.
    words: values of the names in braces in commands, other than {record}.
    facts: the summary's entries on the machine.
    """

    def __init__(
        self,
        parts: Sequence[Part],
        prefix: Path,
        words: Mapping[str, str],
        facts: Mapping[str, Any],
    ) -> None:
        self.parts, self.prefix, self.words, self.facts = parts, prefix, words, facts
        self.rows: list[dict[str, Any]] = [
            {
                "part": part.name,
                "outcome": "not run",
                "seconds": 0.0,
                "limit_s": part.limit_s,
                "failures": [],
                "notes": [],
            }
            for part in parts
        ]
        self.summary = self.path("gpu-check")
        self.child: subprocess.Popen[str] | None = None
        self.stopped_by = 0  # number of the signal

    def path(self, name: str) -> Path:
        return self.prefix.with_name(f"{self.prefix.name}-{name}.json")

    def run(self) -> int:
        """Run all parts. Returns the exit code.

        It is 1 after a failure, 128 + the signal's number after an interruption, else 0.
        """
        signals = (signal.SIGINT, signal.SIGTERM)
        before = {number: signal.signal(number, self._stop) for number in signals}
        try:
            self.write()
            for part, row in zip(self.parts, self.rows, strict=True):
                if self.stopped_by:
                    break
                row |= self._outcome(part, row)
                self.write()
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
        self.report()
        if any(row["outcome"] == "failed" for row in self.rows):
            return 1
        return 128 + self.stopped_by if self.stopped_by else 0

    def write(self) -> None:
        """Write the summary with all results so far."""
        date = datetime.date.today().isoformat()
        facts = {"check": "gpu", "date": date, "machine": dict(self.facts)}
        write_json(self.summary, facts | {"parts": self.rows}, ours=json_with("check", "parts"))

    def report(self) -> None:
        """Print a table of the parts."""
        print(f"\nWritten to {self.summary} and the files beside it.")
        for row in self.rows:
            times = f"{row['seconds']:5.0f} of {row['limit_s']} s"
            print(f"{row['part']:<12}{row['outcome']:<13}{times}")
            for kind, label in (("failures", "FAILED "), ("notes", "")):
                for line in row[kind][:SHOWN]:
                    print(f"    {label}{line}")
                if len(row[kind]) > SHOWN:
                    print(f"    and {len(row[kind]) - SHOWN} more {kind} in the file")

    def _outcome(self, part: Part, row: dict[str, Any]) -> dict[str, Any]:
        absent = lacking(part.needs)
        if absent:
            return {"outcome": "missing", "notes": absent}
        row["outcome"] = "running"  # the summary then shows it if the machine is lost
        self.write()
        record = self.path(part.name)
        record.unlink(missing_ok=True)  # from an earlier check
        begin = time.monotonic()
        code, output = self._execute(part, record)
        findings = part.read(read_json(record) if record.exists() else None, output)
        failures = list(findings.failures)
        explained = failures or findings.refused or self.stopped_by
        if code not in (0, None) and not explained:
            last = " | ".join(line.strip() for line in output[-3:])
            failures = [f"exit code {code}: {last}"]
        if failures:
            outcome = "failed"
        elif self.stopped_by:
            outcome = "interrupted"
        elif findings.refused:
            outcome = "missing"
        else:
            outcome = "cut off" if code is None else "passed"
        return {
            "outcome": outcome,
            "seconds": round(time.monotonic() - begin, 1),
            "failures": failures,
            "notes": [findings.refused] if findings.refused else list(findings.notes),
        }

    def _execute(self, part: Part, record: Path) -> tuple[int | None, list[str]]:
        """Run a part's command, and kill every process of its group at the end.

        Returns its exit code, which is None if the time limit cut it off, and its output lines.
        """
        command = [word.format(record=record, **self.words) for word in part.command]
        print(f"\n== {part.name}, at most {part.limit_s} s: {' '.join(command)}", flush=True)
        output: list[str] = []
        code: int | None = None
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            added = {"TMPDIR": folder, "PYTHONUNBUFFERED": "1"} | dict(part.environment)
            child = self.child = subprocess.Popen(
                command,
                cwd=ROOT,
                env=os.environ | added,
                start_new_session=True,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
            )
            reader = threading.Thread(target=_echo, args=(child.stdout, output), daemon=True)
            reader.start()
            try:
                if self.stopped_by:  # the signal came before `self.child` was set
                    _end(child)
                code = child.wait(part.limit_s)
            except subprocess.TimeoutExpired:
                pass
            finally:
                self.child = None
                _end(child)
                child.wait()
                # Do not wait for long: a process that left the group may keep the pipe open.
                reader.join(timeout=5)
        return code, output

    def _stop(self, number: int, frame: object) -> None:
        self.stopped_by = number
        if self.child is not None:
            _end(self.child)


def _end(child: subprocess.Popen[str]) -> None:
    """Kill the child's process group with SIGKILL. Records stay valid, as writes are atomic."""
    try:
        os.killpg(child.pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def _echo(stream: IO[str], output: list[str]) -> None:
    """Print every line at once, and keep it."""
    for line in stream:
        output.append(line)
        sys.stdout.write(line)
        sys.stdout.flush()
