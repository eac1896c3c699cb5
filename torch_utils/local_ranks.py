"""Ranks on the cores of one machine, started by the command itself: no torchrun is needed.

A process computes with one thread. Two threads of a process wait for each other thousands of times
a step; where another program holds a core, each wait costs a slice of the scheduler. Ranks wait for
each other a few times a step (docs/performance.md has the figures).
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import socket
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from typing import Any

import torch

from dnnlib.errors import UserError

THREADS = "OMP_NUM_THREADS"  # where the user has set it, it holds
PATIENCE_S = 10.0  # for a rank to end when its work is done


def use_one_thread() -> None:
    """Compute with one thread in this process, unless the user has set OMP_NUM_THREADS."""
    if THREADS not in os.environ:
        torch.set_num_threads(1)


def under_torchrun() -> bool:
    return "WORLD_SIZE" in os.environ


@contextlib.contextmanager
def local_ranks(count: int, work: Callable[[], Any]) -> Iterator[None]:
    """Make this process rank 0 of `count` for the block, in which it calls `work()` too.

    Every rank must do so alike, and join by `torch_utils.distributed.process_group`. Only rank 0
    prints and heeds signals. The others end with it, however it ends. An error of another rank is
    raised here: as the same `UserError`, or as a RuntimeError with its traceback.
    """
    if count == 1:
        yield
        return
    before = dict(os.environ)
    os.environ.update(_meeting_point(count))
    use_one_thread()
    os.environ.setdefault(THREADS, "1")  # of the processes that are started here
    peers: list[_Peer] = []
    try:
        peers.extend(_Peer(rank, work) for rank in range(1, count))
        yield
        for peer in peers:
            peer.process.join(PATIENCE_S)
    except UserError:
        raise
    except Exception as error:
        for peer in peers:
            peer.raise_its_error(error)
        raise
    finally:
        for peer in peers:
            peer.process.kill()  # only rank 0 writes files, so nothing is left half-written
            peer.process.join()
            peer.pipe.close()
        os.environ.clear()
        os.environ.update(before)


def _meeting_point(count: int) -> dict[str, str]:
    """Rank 0's environment variables, those of torchrun."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    # Without it gloo looks up the name of the host, which many a laptop cannot resolve.
    names = {name for _, name in socket.if_nameindex()}
    interface = next((name for name in ("lo", "lo0") if name in names), None)
    return {
        "RANK": "0",
        "LOCAL_RANK": "0",
        "WORLD_SIZE": str(count),
        "LOCAL_WORLD_SIZE": str(count),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    } | ({"GLOO_SOCKET_IFNAME": interface} if interface else {})


class _Peer:
    """Rank 0's view of another rank: its process, and a pipe. The rank sends its error by the pipe,
    and takes the pipe's end for the end of rank 0.
    """

    def __init__(self, rank: int, work: Callable[[], Any]) -> None:
        context = multiprocessing.get_context("spawn")
        self.rank = rank
        self.pipe, theirs = context.Pipe()
        self.process: SpawnProcess = context.Process(
            target=_be_rank, args=(rank, theirs, work), name=f"rank {rank}"
        )
        self.process.start()
        theirs.close()

    def raise_its_error(self, error: Exception) -> None:
        """Raise what this rank failed of, if it did: before rank 0, which then lost it."""
        with contextlib.suppress(EOFError, OSError):
            if self.pipe.poll(2.0):
                of_user, words = self.pipe.recv()
                if of_user:
                    raise UserError(words) from None
                if "Connection closed by peer" not in words:  # else it lost rank 0
                    raise RuntimeError(f"rank {self.rank} failed:\n{words}") from error
        self.process.join(2.0)
        code = self.process.exitcode
        if code is not None and code < 0:
            raise UserError(
                f"process {self.rank} was ended by {signal.Signals(-code).name}; where memory is "
                "short, start fewer (--ranks 1). What was saved is whole: the same command "
                "resumes"
            ) from error


def _be_rank(rank: int, pipe: Connection, work: Callable[[], Any]) -> None:
    """What a process other than rank 0 does."""
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank))
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # the ranks agree with rank 0, which heeds them
    threading.Thread(target=_end_with_rank_0, args=(pipe,), daemon=True).start()
    sys.stdout = sys.stderr = open(os.devnull, "w")  # noqa: SIM115 (open to the end)
    torch.set_num_threads(int(os.environ[THREADS].split(",")[0]))
    try:
        work()
    except Exception as error:  # not swallowed: rank 0 raises it
        of_user = isinstance(error, UserError)
        with contextlib.suppress(OSError):
            pipe.send((of_user, str(error) if of_user else traceback.format_exc()))
        sys.exit(1)


def _end_with_rank_0(pipe: Connection) -> None:
    """Wait for the end of the pipe, which comes with the end of rank 0, whatever ends it."""
    with contextlib.suppress(EOFError, OSError):
        pipe.recv()
    os._exit(1)
