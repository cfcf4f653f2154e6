"""Who uses the server: a lease for each client, and the memory that all of them share."""

import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Lock, RLock

import numpy as np
import numpy.typing as npt

from edge.errors import SamedgeError
from edge.memory import MIB, memory_limit_mib
from edge.serve.session import Session
from edge.system.machine import machine_memory_mib

LEASE = "X-Lease-Token"  # header of every request of a client
UNKNOWN_MIB = 8192  # taken for the memory of a machine that does not say
SPARED_S = 30.0  # a session that was used so lately is not put out for another


class Gone(SamedgeError):
    """A lease that has ended, or never was."""


class Full(SamedgeError):
    """No room now; later there may be."""


@dataclass(frozen=True)
class Limits:
    """What clients may take."""

    sessions: int = 16
    body_mib: int = 1024  # of a request
    array_mib: int = 2048  # unpacked
    memory_mib: float | None = None  # of all sessions and requests; None: half of what this process may use
    idle_s: float = 3600.0  # without an action of the user
    liveness_s: float = 60.0  # without a sign of the client, which sends heartbeats in half of this
    header_s: float = 10.0  # for a request to be begun once there is a connection
    body_s: float = 20.0  # for a request's body to come, and a second more for each MiB


@dataclass(eq=False)
class Lease:
    """What belongs to one client."""

    token: str
    alive_s: float  # when it was last heard of
    active_s: float  # when its user last did something
    session: Session | None = None
    shown: npt.NDArray[np.bool_] | None = None  # the mask that the client has
    dtype: np.dtype = field(default_factory=lambda: np.dtype(np.uint8))  # of the client's labels
    lock: Lock = field(default_factory=Lock)  # its requests are answered one after the other

    @property
    def nbytes(self) -> int:
        """Of the session, and of the client's mask and an answer's."""
        return 0 if self.session is None else self.session.nbytes + 2 * self.session.case.image.nbytes


class Leases:
    """The leases given out. Any thread may call."""

    def __init__(self, limits: Limits, clock: Callable[[], float] = time.monotonic) -> None:
        self.limits, self._clock = limits, clock
        self._leases: dict[str, Lease] = {}
        self._held = 0  # bytes of requests under way
        self._lock = RLock()
        usable_mib = limits.memory_mib or (memory_limit_mib() or machine_memory_mib() or UNKNOWN_MIB) / 2
        self._memory = int(usable_mib * MIB)

    def claim(self) -> Lease:
        """A new lease.

        Raises:
            Full: as many as there may be are in use.
        """
        with self._lock:
            self.reap()
            if len(self._leases) >= self.limits.sessions:
                raise Full(f"all {self.limits.sessions} sessions are in use; try again later")
            now = self._clock()
            lease = Lease(secrets.token_urlsafe(32), now, now)
            self._leases[lease.token] = lease
            return lease

    def get(self, token: str | None, *, acts: bool = True) -> Lease:
        """A client's lease, which has shown that it is alive.

        Args:
            acts: its user did something, too.

        Raises:
            Gone: it has ended.
        """
        with self._lock:
            lease = self.peek(token)
            lease.alive_s = self._clock()
            if acts:
                lease.active_s = lease.alive_s
            return lease

    def peek(self, token: str | None) -> Lease:
        """A client's lease, of which nothing is learnt.

        Raises:
            Gone: it has ended.
        """
        with self._lock:
            self.reap()
            lease = self.find(token)
            if lease is None:
                raise Gone("this session has ended (released, idle, or the server was started again); claim another")
            return lease

    def find(self, token: str | None) -> Lease | None:
        """A client's lease; None: there is no such one."""
        return self._leases.get(token or "")

    def remaining_s(self, lease: Lease) -> float:
        """Until it ends if its user does nothing."""
        return max(0.0, lease.active_s + self.limits.idle_s - self._clock())

    def release(self, token: str | None) -> None:
        """End a lease, if there is such a one."""
        with self._lock:
            lease = self._leases.pop(token or "", None)
        if lease is not None:
            lease.session = lease.shown = None

    def reap(self) -> None:
        """End the leases of clients that are gone and of users that do nothing."""
        with self._lock:
            now, limits = self._clock(), self.limits
            for lease in list(self._leases.values()):
                if now - lease.alive_s > limits.liveness_s or now - lease.active_s > limits.idle_s:
                    self.release(lease.token)

    @contextmanager
    def hold(self, nbytes: int, lease: Lease | None = None) -> Iterator[None]:
        """Memory for the time of a request; sessions not used for a while are put out for it, the idlest first.

        Args:
            lease: that asks, and is spared.

        Raises:
            Full: there is not enough.
        """
        with self._lock:
            self._make_room(nbytes, lease)
            self._held += nbytes
        try:
            yield
        finally:
            with self._lock:
                self._held -= nbytes

    def _make_room(self, nbytes: int, lease: Lease | None) -> None:
        self.reap()
        idle = sorted(
            (other for other in self._leases.values() if other is not lease and other.nbytes),
            key=lambda other: other.active_s,
        )
        while self._taken() + nbytes > self._memory:
            if not idle or self._clock() - idle[0].active_s < SPARED_S:
                raise Full(f"not enough memory for {nbytes / MIB:.0f} MiB more; try again later, or a smaller image")
            self.release(idle.pop(0).token)

    def _taken(self) -> int:
        return self._held + sum(lease.nbytes for lease in self._leases.values())
