"""A run's lease: who may run it. One small object at the run's prefix in its store, changed by conditional writes only.

No clock is trusted. How old the lease is, the store says itself: ``Date`` less ``Last-Modified`` of one answer. The
holder counts from before its own request, on a clock that nobody sets, so that for it the lease always ends earlier
than for everybody else. Every write has another body, so that each has an ETag of its own, and whoever lost the answer
to a write finds out by reading whether it was done.

What is stored is not fenced by it: each attempt writes below its own number, which is given out here, once.
"""

from __future__ import annotations

import dataclasses
import os
import time
from calendar import timegm
from collections.abc import Mapping
from typing import Any, Callable, Protocol

from runctl._dataclasses import dataclass
from runctl.agent.encoding import dumps, from_json, loads

KEY = "lease.json"
"""Below the run's prefix."""
FORMAT = 1
SECONDS = 180.0
"""How long a lease is held after a write: a store that is away for a minute stops nobody."""
TOLERANCE = 5.0
"""Seconds: both headers have whole ones, several machines of a store tell them, and no two clocks run equally fast."""
RENEWALS = 9
"""How often a holder renews in the time that one write is good for."""
_TRIES = 8
_LONGEST = 86400.0


@dataclass(frozen=True)
class Lease:
    """What the object says."""

    run_id: str
    attempt: int = 0
    """The last number that was given to an attempt."""
    holder: str = ""
    """Who has it, for a person: an instance, or a program on a computer; empty: nobody."""
    token: str = ""
    """By this the holder knows it again."""
    write: str = ""
    """Another one in each write of a holder."""
    seconds: float = SECONDS
    """How long it is held after that write."""
    wanted_by: str = ""
    """Who asks the holder to hand the run over; empty: nobody."""
    ended: str = ""
    """The reason for which the run has ended for good: nobody takes the lease any more."""
    format: int = FORMAT


@dataclass(frozen=True)
class Found:
    """The lease, by one answer of the store."""

    lease: Lease | None = None
    """``None``: there is no such object."""
    etag: str = ""
    age: float = 0.0
    """Seconds since the last write, all by the store's own clock."""


@dataclass(frozen=True)
class Refused:
    """Why somebody cannot have the lease."""

    holder: str = ""
    seconds: float = 0.0
    """Until it may be free; 0: another one was quicker at this very moment."""
    ended: str = ""
    """See `Lease.ended`."""


class LeaseStore(Protocol):
    """The object. Reading and writing raise where the store does not answer: a write may have been done then."""

    def read(self) -> Found:
        """What there is. Raises `ValueError` for what is not a lease."""
        ...

    def write(self, data: bytes, etag: str) -> str | None:
        """The new ETag; ``None``, and nothing is written, where the object is not the one with that ETag any more.
        ``""``: where there is one already."""
        ...

    def close(self) -> None:
        """Nothing is held open."""
        ...


def encode(lease: Lease) -> bytes:
    """As it is stored."""
    return dumps(lease).encode() + b"\n"


def decode(data: bytes) -> Lease:
    """Raises `ValueError`."""
    found: Any = loads(data)
    if not isinstance(found, Mapping) or found.get("format") != FORMAT:
        raise ValueError(f"it is not a lease of format {FORMAT}")
    return from_json(Lease, found)


def age_of(headers: Mapping[str, str]) -> float:
    """Seconds since the last write by the headers (lower case) of one answer; 0 where they do not say. Pure."""
    try:
        date, modified = (
            timegm(time.strptime(headers[name], "%a, %d %b %Y %H:%M:%S GMT"))
            for name in ("date", "last-modified")
        )
    except (KeyError, ValueError, OverflowError):
        return 0.0
    return max(0.0, date - modified)


def refusal(found: Found) -> Refused | None:
    """Why the lease cannot be taken now; ``None``: it can. Pure."""
    lease = found.lease
    if lease is None:
        return None
    if lease.ended:
        return Refused(lease.holder, ended=lease.ended)
    left = min(lease.seconds, _LONGEST) + TOLERANCE - found.age
    return Refused(lease.holder, left) if lease.holder and left >= 0 else None


def clock() -> float:
    """Seconds on a clock that nobody sets, and that goes on while the computer sleeps."""
    boottime = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if boottime is None else time.clock_gettime(boottime)


class Claim:
    """One program's claim to one run. Used from one thread.

    Every method raises what the store raises; the same call may be made again then.
    """

    def __init__(
        self,
        store: LeaseStore,
        run_id: str,
        holder: str,
        *,
        seconds: float = SECONDS,
        token: str = "",
        now: Callable[[], float] = clock,
        unique: Callable[[], str] = lambda: os.urandom(16).hex(),
    ) -> None:
        """``token``: that of a program before this one, which has certainly ended: its lease is this one's at once."""
        self._store, self._run_id, self._holder = store, run_id, holder
        self._seconds, self._now, self._unique = seconds, now, unique
        self._token = token or unique()
        self._began: dict[str, float] = {}
        self._held: Lease | None = None
        self._etag = ""
        self._until = 0.0
        self._gives_up = False

    @property
    def until(self) -> float:
        """By when everything that needs the lease must have stopped, on the claim's clock."""
        return self._until if self._held is not None and not self._gives_up else float("-inf")

    @property
    def holds(self) -> bool:
        """Whether the lease is this program's now, whatever happens elsewhere."""
        return self._now() < self.until

    @property
    def lease(self) -> Lease | None:
        """As it was found or written last; ``None``: it is somebody else's, or nobody's."""
        return self._held

    @property
    def wanted_by(self) -> str:
        """Who asks for the run to be handed over."""
        return self._held.wanted_by if self._held is not None else ""

    def take(self, has_ended: Callable[[str], bool] = lambda _: False) -> Refused | None:
        """The lease is this program's (``None``), or the answer says whose it is.

        ``has_ended`` knows of a holder that can certainly do nothing any more: its time is not waited for.
        """
        for _ in range(_TRIES):
            found = self._read()
            if self._held is not None:
                # By an earlier call whose answer was lost: how much of its time is left is found out by renewing.
                if self.renew():
                    return None
                continue
            refused = refusal(found)
            if refused is not None and (refused.ended or not refused.holder or not has_ended(refused.holder)):
                return refused
            before = found.lease or Lease(self._run_id)
            if self._write(
                dataclasses.replace(
                    before,
                    holder=self._holder,
                    token=self._token,
                    seconds=self._seconds,
                    wanted_by="",
                ),
                found.etag,
            ):
                return None
        return Refused()

    def renew(self) -> bool:
        """Whether the lease still is this program's; then it is for as long again."""
        return self._change()

    def begin_attempt(self, at_least: int = 1) -> int | None:
        """The number of a new attempt, which nobody else has got or gets; ``None``: the lease is not ours any more."""
        number = max(self._held.attempt + 1, at_least) if self._held is not None else 0
        return number if self._change(attempt=number) else None

    def give_up(self, ended: str = "") -> None:
        """Somebody else may take it at once; with ``ended`` nobody any more. One that is not ours is left alone.

        It does not count as ours from the call on: its answer may be lost.
        """
        self._gives_up = True
        self._change(holder="", token="", wanted_by="", ended=ended)
        self._held = None

    def ask_holder(self) -> None:
        """Whoever has the lease finds that this program asks for the run, unless somebody asks already."""
        for _ in range(_TRIES):
            found = self._store.read()
            lease = found.lease
            if lease is None or not lease.holder or lease.wanted_by or lease.token == self._token:
                return
            asking = dataclasses.replace(lease, wanted_by=self._holder)
            if self._store.write(encode(asking), found.etag) is not None:
                return

    def _change(self, **values: Any) -> bool:
        """Whether this was written; what somebody who asks has written meanwhile stays."""
        for _ in range(_TRIES):
            if self._held is None:
                return False
            if self._write(dataclasses.replace(self._held, **values), self._etag):
                return True
            self._read()
        return False

    def _write(self, lease: Lease, etag: str) -> bool:
        began = self._now()
        lease = dataclasses.replace(lease, write=self._unique())
        # Before it is sent: should the answer be lost, the write is good from here on.
        self._began[lease.write] = began
        written = self._store.write(encode(lease), etag)
        if written is None:
            found = self._read()
            done = found.lease is not None and found.lease.write == lease.write
            self._gives_up = self._gives_up and not done
            return done
        # Those before, whose answers were lost, were conditional on what is there no more.
        self._began = {lease.write: began}
        self._gives_up = False
        self._adopt(lease, written)
        return True

    def _read(self) -> Found:
        found = self._store.read()
        if found.lease is not None and found.lease.token == self._token:
            self._adopt(found.lease, found.etag)
        else:
            self._held = None
        return found

    def _adopt(self, lease: Lease, etag: str) -> None:
        if lease.token != self._token:
            self._held = None
            return
        self._held, self._etag = lease, etag
        # A write of a program before this one counts for nothing until it is renewed.
        self._until = self._began.get(lease.write, float("-inf")) + self._seconds
