"""Several ranks on the CPU cores of one machine, started without torchrun.

Each rank computes with one thread. Two threads of one process wait for each other thousands of
times in a training step. If another program holds a core, each wait costs a time slice of the
scheduler. Ranks wait for each other only a few times a step (figures: docs/performance.md).
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

THREADS = "OMP_NUM_THREADS"  # a value that the user has set is kept
PATIENCE_S = 10.0  # how long rank 0 waits for another rank to exit after the work is done


def use_one_thread() -> None:
    """Compute with one thread in this process, unless the user has set OMP_NUM_THREADS."""
    if THREADS not in os.environ:
        torch.set_num_threads(1)


def under_torchrun() -> bool:
    """Whether torchrun has started this process."""
    return "WORLD_SIZE" in os.environ


@contextlib.contextmanager
def local_ranks(count: int, work: Callable[[], Any]) -> Iterator[None]:
    """Start `count` - 1 processes that call `work()`, and make this process rank 0 for the block.

    The block must call `work()` as well, and `work` must join the ranks by
    `torch_utils.distributed.process_group`. Only rank 0 prints and handles signals. The other
    ranks end when rank 0 ends for any reason. An exception of another rank is raised here: as the
    same `UserError`, or as a RuntimeError that holds its traceback.
    """
    if count == 1:
        yield
        return
    before = dict(os.environ)
    os.environ.update(_meeting_point(count))
    use_one_thread()
    os.environ.setdefault(THREADS, "1")  # inherited by the processes that are started below
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
            peer.process.kill()  # only rank 0 writes files, so no file is left half-written
            peer.process.join()
            peer.pipe.close()
        os.environ.clear()
        os.environ.update(before)


def _meeting_point(count: int) -> dict[str, str]:
    """The environment variables of rank 0, as torchrun would set them."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    # Without GLOO_SOCKET_IFNAME, gloo resolves the host's name, which fails on many laptops.
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
    """Another rank as rank 0 sees it: the process, and a pipe to it.

    The process sends its exception through the pipe. If the pipe closes, the process knows that
    rank 0 has ended.
    """

    def __init__(self, rank: int, work: Callable[[], Any]) -> None:
        context = multiprocessing.get_context("spawn")
        self.rank = rank
        self.pipe, pipe_of_rank = context.Pipe()
        self.process: SpawnProcess = context.Process(
            target=_be_rank, args=(rank, pipe_of_rank, work), name=f"rank {rank}"
        )
        self.process.start()
        pipe_of_rank.close()

    def raise_its_error(self, error: Exception) -> None:
        """Raise the exception of this rank, if it failed.

        error: the exception of rank 0, which is often only the lost connection to this rank.
        """
        with contextlib.suppress(EOFError, OSError):
            if self.pipe.poll(2.0):
                is_user_error, text = self.pipe.recv()
                if is_user_error:
                    raise UserError(text) from None
                # A rank that only lost its connection to rank 0 is not the cause.
                if "Connection closed by peer" not in text:
                    raise RuntimeError(f"rank {self.rank} failed:\n{text}") from error
        self.process.join(2.0)
        code = self.process.exitcode
        if code is not None and code < 0:
            raise UserError(
                f"process {self.rank} was ended by {signal.Signals(-code).name}; if memory is "
                "short, start fewer processes (--ranks 1). Saved files are whole: the same command "
                "resumes"
            ) from error


def _be_rank(rank: int, pipe: Connection, work: Callable[[], Any]) -> None:
    """The main function of a process other than rank 0."""
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank))
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
        # Rank 0 handles the signals, and the ranks stop together with it.
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_end_with_rank_0, args=(pipe,), daemon=True).start()
    sys.stdout = sys.stderr = open(os.devnull, "w")  # noqa: SIM115 (stays open until the exit)
    torch.set_num_threads(int(os.environ[THREADS].split(",")[0]))
    try:
        work()
    except Exception as error:  # sent to rank 0, which raises it
        is_user_error = isinstance(error, UserError)
        with contextlib.suppress(OSError):
            pipe.send((is_user_error, str(error) if is_user_error else traceback.format_exc()))
        sys.exit(1)


def _end_with_rank_0(pipe: Connection) -> None:
    """Wait until the pipe closes, which happens when rank 0 ends for any reason, and exit."""
    with contextlib.suppress(EOFError, OSError):
        pipe.recv()
    os._exit(1)
