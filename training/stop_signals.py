"""Signals that end a training with its state saved."""

from __future__ import annotations

import os
import signal
from typing import Any

from torch_utils.distributed import is_main, sum_of_numbers


class StopSignals:
    """A context in which SIGINT, SIGTERM and SIGUSR1 ask the training to end after a step.

    A second SIGINT raises KeyboardInterrupt at once.
    """

    def __init__(self) -> None:
        self.received = False
        self._before: dict[int, Any] = {}

    def agreed(self) -> bool:
        """Whether any rank has received a signal. A collective call."""
        return sum_of_numbers([self.received])[0] > 0

    def __enter__(self) -> None:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
            self._before[number] = signal.signal(number, self._receive)

    def _receive(self, number: int, frame: object) -> None:
        if self.received and number == signal.SIGINT:
            raise KeyboardInterrupt
        if not self.received and is_main():
            os.write(2, b"Stopping after this step; the state is saved first ...\n")
        self.received = True

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
