"""What cannot outgrow its bound: a cache of bytes, bytes in use, and rates of requests."""

from __future__ import annotations

import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

T = TypeVar("T")


class ByteCache(Generic[T]):
    """Keeps the values that were used last, up to `max_bytes`. Threads may share it.

    size_of: the bytes of a value. A value that is larger than the whole cache is not kept.
    """

    def __init__(self, max_bytes: int, size_of: Callable[[T], int]) -> None:
        self.max_bytes, self.size_of, self.num_bytes = max_bytes, size_of, 0
        self._values: OrderedDict[Hashable, T] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._values)

    def get(self, key: Hashable) -> T | None:
        with self._lock:
            if key not in self._values:
                return None
            self._values.move_to_end(key)
            return self._values[key]

    def put(self, key: Hashable, value: T) -> None:
        size = self.size_of(value)
        with self._lock:
            if key in self._values:
                self.num_bytes -= self.size_of(self._values.pop(key))
            if size > self.max_bytes:
                return
            self._values[key] = value
            self.num_bytes += size
            while self.num_bytes > self.max_bytes:
                _, oldest = self._values.popitem(last=False)
                self.num_bytes -= self.size_of(oldest)


class Budget:
    """Bytes that are in use at once, up to `max_bytes`, and up to half of them by one client.

    For one thread, such as the server's.
    """

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes, self.num_bytes = max_bytes, 0
        self._by_client: Counter[str] = Counter()

    def take(self, client: str, size: int) -> bool:
        """Whether so many bytes more may be used; if so, they are counted until `give`."""
        of_client = self._by_client[client] + size
        fits = self.num_bytes + size <= self.max_bytes and of_client <= self.max_bytes // 2
        if fits:
            self.num_bytes += size
            self._by_client[client] = of_client
        return fits

    def give(self, client: str, size: int) -> None:
        """Bytes that `take` has counted are used no more."""
        self.num_bytes -= size
        self._by_client[client] -= size
        if not self._by_client[client]:
            del self._by_client[client]


class Rates:
    """How often each client may ask: `burst` times at once, and then `per_second` times.

    clock: seconds, for tests. At most `max_clients` are remembered; the one that asked least
    recently is forgotten first.
    """

    def __init__(
        self,
        per_second: float,
        burst: int,
        max_clients: int = 1000,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.per_second, self.burst, self.clock = per_second, burst, clock
        self.max_clients = max_clients
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def allows(self, client: str) -> bool:
        """Whether the client may ask now; if so, the request is counted."""
        now = self.clock()
        left, before = self._left.pop(client, (float(self.burst), now))
        left = min(float(self.burst), left + (now - before) * self.per_second)
        allowed = left >= 1
        self._left[client] = (left - allowed, now)
        while len(self._left) > self.max_clients:
            self._left.popitem(last=False)
        return allowed
