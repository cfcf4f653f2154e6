"""Calls of several threads: who waits, and who runs beside whom."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from queue import SimpleQueue
from threading import Lock

from edge.engines.graph import Array, Inputs, Run

MEMORY_S = 1.0  # callers that met within this time are taken to come together again


def in_turn(requests: Sequence[Run]) -> Run:
    """Each call runs in a request that is free, or waits for one: a request computes in buffers of its own."""
    free: SimpleQueue[Run] = SimpleQueue()
    for request in requests:
        free.put(request)

    def run(inputs: Inputs) -> Array:
        request = free.get()
        try:
            return request(inputs)
        finally:
            free.put(request)

    return run


class Callers:
    """Whether one thread calls an engine, or several do."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._inside = 0
        self._met_s = -MEMORY_S

    @contextmanager
    def enter(self) -> Iterator[bool]:
        """For the time of a call: whether another is under way, or was together with one a moment ago."""
        with self._lock:
            self._inside += 1
            now = time.monotonic()
            if self._inside > 1:
                self._met_s = now
            together = now - self._met_s < MEMORY_S
        try:
            yield together
        finally:
            with self._lock:
                self._inside -= 1


def alone_or_together(callers: Callers, alone: Run, load_together: Callable[[], Run]) -> Run:
    """One way to run for a caller that is alone, and one for several at once, loaded when it is first needed."""
    lock = Lock()
    loaded: list[Run] = []

    def together() -> Run:
        with lock:
            if not loaded:
                loaded.append(load_together())
        return loaded[0]

    def run(inputs: Inputs) -> Array:
        with callers.enter() as several:
            return (together() if several else alone)(inputs)

    return run
