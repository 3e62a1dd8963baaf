"""Filling a folder from S3: list, compare, fetch, prove, record; and again, where S3 changed meanwhile."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from runctl._dataclasses import dataclass
from runctl.agent.cloud.credentials import Credentials
from runctl.agent.cloud.s3 import S3, Location, Refusal
from runctl.agent.errors import AgentError, counted
from runctl.agent.fill.inside import Looker, in_the_way, make_folder, opener, remove_file
from runctl.agent.fill.objects import Wanted, listing_digest, wanted
from runctl.agent.fill.others import LOCK, other_path
from runctl.agent.fill.planning import Differences, Local, check_room, differences, room_needed
from runctl.agent.fill.record import Record, sync_file_system
from runctl.agent.fill.report import Report
from runctl.agent.fill.transfer import Outcome, Transfer
from runctl.agent.fill.worker import Done, Setting, partial_name
from runctl.agent.object_store import Source, partition_of, to_add

PASSES = 3
"""How often S3 is listed anew because objects changed while they were read."""
MOST_WORKERS = 16
_SHOWN = 5


@dataclass(frozen=True)
class Request:
    """What to fill, and from where."""

    source: Source
    location: Location
    into: Path
    mount_point: Path | None = None
    """The file system that it must be on."""
    delete: bool = False
    """Remove files that were filled before and are not in S3 any more."""
    listing: str = ""
    """The digest of what S3 must still have, for another volume that was filled with it; empty: whatever it has."""


def fill_folder(request: Request, report: Report, variables: Mapping[str, str]) -> None:
    """Every object is a file below ``into``, proven; the last line of the report says what was done.

    Raises `AgentError`.
    """
    begun = time.monotonic()
    _check_folder(request)
    record = Record(request.into, str(request.source))
    with _writing(request.into):
        record.make_folders()
    lock = _locked(record)
    try:
        _filled(request, record, report, variables, begun)
    finally:
        os.close(lock)


def _filled(
    request: Request, record: Record, report: Report, variables: Mapping[str, str], begun: float
) -> None:
    record.load()
    total = Outcome()
    for _ in range(PASSES):
        goal = listed(request, variables)
        _check_listing(request, goal)
        outcome, removed = _fill_once(request, goal, record, report, variables)
        _add(total, outcome)
        if not outcome.changed:
            break
        report.say(
            "note", message=f"{counted(len(outcome.changed), 'object')} changed while they were read; again"
        )
    else:
        raise AgentError(
            "changed",
            "{} of {} keep changing while they are read: {}".format(
                _count(len(outcome.changed), "object"),
                request.source,
                ", ".join(sorted(outcome.changed)[:_SHOWN]),
            ),
            "run the same command again when nobody writes there",
        )
    if outcome.failures:
        record.flush()
        raise _failed(outcome.failures, request.source)
    _verify(request, goal, record)
    _tidy(record)
    record.rewrite(set(goal.files), delete=request.delete)
    is_all = request.mount_point in (None, request.into)
    other = other_path(request.into, goal) if is_all else None
    report.say(
        "result",
        source=str(request.source),
        into=str(request.into),
        files=len(goal.files),
        bytes=goal.size,
        fetched_files=total.files,
        fetched_bytes=total.bytes,
        removed_files=removed,
        proofs=_proofs(goal, record),
        listing=listing_digest(goal),
        # Of a folder on the volume nobody asks, so nothing is said.
        only_from_source=other is None if is_all else None,
        other_path=None if other is None else os.fsencode(other).decode("utf-8", "replace"),
        seconds=round(time.monotonic() - begun, 3),
    )


def listed(request: Request, variables: Mapping[str, str]) -> Wanted:
    """What S3 has. Raises `AgentError`: ``denied``, ``no-bucket``, ``wrong-region``, and what `wanted` raises."""
    source = request.source
    s3 = S3(source.bucket, request.location, Credentials(variables))
    try:
        return wanted(source, list(s3.list(source.prefix)))
    except Refusal as refusal:
        raise explained(refusal, source, request.location) from refusal
    finally:
        s3.close()


def _check_listing(request: Request, goal: Wanted) -> None:
    if request.listing and listing_digest(goal) != request.listing:
        raise AgentError(
            "source-changed",
            f"what is in {request.source} is not what the other volume was filled with",
            "copy that volume itself",
        )


def explained(refusal: Refusal, source: Source, location: Location) -> AgentError:
    """What S3's refusal to list means. Pure."""
    if refusal.s3_code == "NoSuchBucket":
        return AgentError("no-bucket", f"there is no bucket {source.bucket}", "aws s3 ls shows yours")
    if refusal.status == 301 or refusal.s3_code in ("AuthorizationHeaderMalformed", "PermanentRedirect"):
        where = refusal.region or "another region"
        return AgentError(
            "wrong-region", f"the bucket {source.bucket} is in {where}, not in {location.region}", ""
        )
    if refusal.status in (401, 403):
        return denied(str(refusal), source, location)
    return AgentError("s3-refused", f"S3 refuses to list {source}: {refusal}")


def denied(message: str, source: Source, location: Location) -> AgentError:
    """The error for a role that may not read, with what it lacks. Pure."""
    return AgentError(
        "denied",
        f"this machine's role may not read {source}: {message}",
        f"add to its role: {to_add(source, partition_of(location.region))} "
        "or detach the volume: a helper machine with these rights is then rented for it",
    )


def _check_folder(request: Request) -> None:
    point = request.mount_point
    if point is not None and not os.path.ismount(point):
        raise AgentError("not-mounted", f"nothing is mounted at {point}", "run the same command again")
    with _writing(request.into):
        if point is None:
            request.into.mkdir(parents=True, exist_ok=True)
        else:
            below = os.path.relpath(str(request.into), point)
            make_folder(Path(point), "" if below == "." else below)


class _writing:  # noqa: N801 (reads as the statement that it is)
    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        if isinstance(error, (FileExistsError, NotADirectoryError)):
            raise in_the_way(self._folder) from error
        if isinstance(error, OSError):
            raise AgentError(
                "cannot-write",
                f"cannot write to {self._folder}: {error.strerror}",
                "give the folder to the login user, or mount the volume for writing",
            ) from error


def _locked(record: Record) -> int:
    """Nobody else fills this folder until the descriptor is closed, or its process has ended."""
    descriptor = opener(str(record.folder / LOCK), os.O_RDWR | os.O_CREAT)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        raise AgentError(
            "busy", f"another prewarm is filling {record.folder.parent}", "wait for it, or stop it"
        ) from error
    return descriptor


def _fill_once(
    request: Request, goal: Wanted, record: Record, report: Report, variables: Mapping[str, str]
) -> Any:
    local = _local_files(request.into)
    plan = differences(goal, record.files, local, str(request.source))
    removed = _remove(request, plan, record) if request.delete else 0
    space = os.statvfs(request.into)
    _clear_leftovers(record, plan)
    partial = sum(file.stat().st_blocks * 512 for file in record.partial.iterdir())
    check_room(
        space.f_bavail * space.f_frsize,
        room_needed(plan, local, partial),
        space.f_favail,
        sum(1 for path, _ in plan.fetch if local(path) is None),
        str(request.into),
    )
    report.say(
        "plan",
        files=len(goal.files),
        bytes=goal.size,
        fetch_files=len(plan.fetch),
        fetch_bytes=plan.bytes,
        same_files=plan.same,
        extra_files=0 if request.delete else len(plan.extra),
    )
    for folder in goal.folders:
        with _writing(request.into / folder):
            make_folder(request.into, folder)
    workers = max(1, min(MOST_WORKERS, os.cpu_count() or 1))
    setting = Setting(request.source.bucket, request.location, str(request.into), dict(variables))
    try:
        outcome = Transfer(setting, record, report, plan, workers).run()
    except AgentError as error:
        record.flush()
        if error.code == "denied":
            raise denied(error.message, request.source, request.location) from error
        raise
    except BaseException:
        record.flush()
        raise
    return outcome, removed


def _clear_leftovers(record: Record, plan: Differences) -> None:
    """What a worker that was killed had begun is gone, but for pieces that the record knows."""
    resumed = {partial_name(found) for path, found in plan.fetch if (path, found.etag) in record.pieces}
    for file in record.partial.iterdir():
        if file.name not in resumed:
            file.unlink()


def _local_files(into: Path) -> Any:
    seen: dict[str, Local | None] = {}
    looker = Looker(into)

    def local(path: str) -> Local | None:
        if path not in seen:
            found = looker.status(path)
            seen[path] = Local(found.st_size, found.st_mtime_ns, found.st_blocks * 512) if found else None
        return seen[path]

    return local


def _remove(request: Request, plan: Differences, record: Record) -> int:
    """Files that this program put there, as it put them there; what others changed or added stays."""
    removed = 0
    for path in plan.extra:
        found, known = Looker(request.into).status(path), record.files[path]
        if found is not None and (found.st_size, found.st_mtime_ns) == (known.size, known.modified_ns):
            remove_file(request.into, path)
            removed += 1
        record.forget(path)
    return removed


def _verify(request: Request, goal: Wanted, record: Record) -> None:
    """Count, bytes and names, by a look at the disk itself."""
    sync_file_system(request.into)
    local, wrong, size = _local_files(request.into), [], 0
    for path, found in goal.files.items():
        here, known = local(path), record.files.get(path)
        before = known is not None and (found.etag, found.size, known.modified_ns)
        if here is None or known is None or (known.etag, here.size, here.modified_ns) != before:
            wrong.append(path)
        else:
            size += here.size
    if wrong or size != goal.size:
        raise AgentError(
            "not-verified",
            "{} changed on the volume while it was filled: {}".format(
                _count(len(wrong), "file"), ", ".join(wrong[:_SHOWN])
            ),
            "run the same command again when nobody writes there",
        )


def _tidy(record: Record) -> None:
    for file in record.partial.iterdir():
        file.unlink()


def _add(total: Outcome, outcome: Outcome) -> None:
    total.files += outcome.files
    total.bytes += outcome.bytes


def _proofs(goal: Wanted, record: Record) -> dict[str, int]:
    found: dict[str, int] = {}
    for path in goal.files:
        kind = record.files[path].proof
        found[kind] = found.get(kind, 0) + 1
    return found


def _failed(failures: list[Done], source: Source) -> AgentError:
    codes = {done.failure for done in failures}
    code = codes.pop() if len(codes) == 1 else "incomplete"
    more = f"; and {len(failures) - _SHOWN} more" if len(failures) > _SHOWN else ""
    hints = {
        "corrupt": "the object in S3 is damaged, or its ETag is not a checksum: put it there again",
        "archived": "restore the objects from Glacier first: aws s3api restore-object",
    }
    return AgentError(
        code,
        "{} of {} could not be fetched: {}{}".format(
            _count(len(failures), "object"),
            source,
            "; ".join(done.message for done in failures[:_SHOWN]),
            more,
        ),
        failures[0].hint or hints.get(code, "run the same command again: it fetches what is missing"),
    )


def _count(number: int, what: str) -> str:
    return "{:,} {}{}".format(number, what, "" if number == 1 else "s")
