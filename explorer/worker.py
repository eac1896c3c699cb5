"""`Worker`: one thread that computes, and the bounded queue in front of it.

Jobs of one group, such as the tiles of a picture at one zoom level, are taken from the queue
together, so that what they share is computed once. A job that nobody waits for any more is dropped.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any


class Busy(Exception):
    """The queue is full. The message is a sentence for the user."""


@dataclass(frozen=True)
class Job:
    """work: what to compute. item: what `share` is told of it. group: None for a job alone."""

    work: Callable[[], Any]
    group: Hashable = None
    item: Any = None
    result: Future = field(default_factory=Future)


class Worker:
    """A thread that takes jobs in their order.

    share: called with the items of all waiting jobs of a group, before the first one is computed.
    limit: most jobs that wait. batch: most jobs that are taken together. The thread ends with the
    process, whatever it computes then.
    """

    def __init__(
        self,
        name: str,
        limit: int,
        share: Callable[[list[Any]], None] | None = None,
        batch: int = 32,
    ) -> None:
        self.name, self.limit, self.share, self.batch = name, limit, share, batch
        self._waiting: deque[Job] = deque()
        self._changed = threading.Condition()
        threading.Thread(target=self._run, name=name, daemon=True).start()

    def submit(
        self, work: Callable[[], Any], group: Hashable = None, item: Any = None
    ) -> Future[Any]:
        """The result of `work()`, computed later; `cancel()` it where nobody waits for it.

        Raises `Busy` where the queue is full.
        """
        job = Job(work, group, item)
        with self._changed:
            if len(self._waiting) >= self.limit:
                self._waiting = deque(job for job in self._waiting if not job.result.cancelled())
            if len(self._waiting) >= self.limit:
                raise Busy(
                    f"the server is busy: {self.limit} {self.name} are waiting; try again soon"
                )
            self._waiting.append(job)
            self._changed.notify()
        return job.result

    def num_waiting(self) -> int:
        """Jobs in the queue that somebody waits for."""
        with self._changed:
            return sum(not job.result.cancelled() for job in self._waiting)

    def _run(self) -> None:
        while True:
            jobs = self._take()
            try:
                if self.share is not None and jobs[0].group is not None:
                    self.share([job.item for job in jobs])
            except Exception as error:  # the jobs hand it to those who wait
                for job in jobs:
                    if job.result.set_running_or_notify_cancel():
                        job.result.set_exception(error)
                continue
            for job in jobs:
                if job.result.set_running_or_notify_cancel():
                    try:
                        job.result.set_result(job.work())
                    except Exception as error:
                        job.result.set_exception(error)

    def _take(self) -> list[Job]:
        """The next job that somebody waits for, with the others of its group."""
        with self._changed:
            while True:
                taken: list[Job] = []
                rest: deque[Job] = deque()
                for job in self._waiting:
                    if job.result.cancelled():
                        continue
                    alike = not taken or (job.group is not None and job.group == taken[0].group)
                    (taken if alike and len(taken) < self.batch else rest).append(job)
                self._waiting = rest
                if taken:
                    return taken
                self._changed.wait()
