"""What a run wrote, put into S3 by its machine after the run: ``URL/RUN/output``, ``checkpoints`` and ``logs``."""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Callable

from runctl.agent.checkpoints.folders import unless_gone
from runctl.agent.cloud.checksums import in_base64
from runctl.agent.cloud.credentials import Credentials
from runctl.agent.cloud.s3 import S3, Location, Refusal, location_of
from runctl.agent.cloud.uploads import upload
from runctl.agent.encoding import dumps
from runctl.agent.errors import AgentError
from runctl.agent.object_store import Source, parse_source, partition_of, to_write
from runctl.agent.records import AttemptFolder
from runctl.agent.spec import RunSpec

MARK = "run.json"
"""``URL/RUN/run.json`` says which run it is; it is there from the start on."""
FILES_AT_ONCE = 8


def check_results(spec: RunSpec, env: Mapping[str, str]) -> None:
    """The machine may write where the results are to go, and has begun to. Raises `AgentError`."""
    if spec.machine_end is None or spec.machine_end.results_url is None:
        return
    mark = dumps({"run_id": spec.run_id, "script": spec.script, "args": spec.args}).encode()
    crc32 = in_base64(f"{zlib.crc32(mark):08x}")
    _with_bucket(
        results_source(spec.machine_end.results_url),
        env,
        lambda s3, above: s3.put(f"{above}/{spec.run_id}/{MARK}".lstrip("/"), mark, crc32),
    )


def upload_results(folder: AttemptFolder, spec: RunSpec, env: Mapping[str, str]) -> None:
    """All of it is there, each file compared with its checksum; what is there already is written again.

    Checkpoints that the run's store has are left to that. Raises `AgentError`.
    """
    if spec.machine_end is None or spec.machine_end.results_url is None:
        return
    source = results_source(spec.machine_end.results_url)
    _with_bucket(source, env, lambda s3, above: _upload(s3, above, folder, spec))


def results_source(url: str) -> Source:
    """Raises `AgentError` (``bad-request``) for what is not an S3 address."""
    try:
        return parse_source(url)
    except ValueError as error:
        raise AgentError("bad-request", str(error)) from error


def _with_bucket(source: Source, env: Mapping[str, str], do: Callable[[S3, str], object]) -> None:
    """Done with the bucket, wherever it is, and the prefix. Raises `AgentError`; what a role lacks is its hint."""
    location = location_of(env)
    try:
        try:
            _done(source, location, env, do)
        except Refusal as refusal:
            if not refusal.region or refusal.region == location.region:
                raise
            _done(source, Location(refusal.region, location.endpoint), env, do)
    except AgentError as error:
        if isinstance(error, Refusal) and error.s3_code == "NoSuchBucket":
            raise AgentError("no-bucket", f"there is no bucket {source.bucket}", "create it first") from error
        if error.code in ("denied", "no-role") or (isinstance(error, Refusal) and error.status in (401, 403)):
            hint = f"add to the machine's role: {to_write(source, partition_of(location.region))}"
            raise AgentError(
                "denied", f"this machine may not write {source}: {error.message}", hint
            ) from error
        raise


def _done(
    source: Source, location: Location, env: Mapping[str, str], do: Callable[[S3, str], object]
) -> None:
    s3 = S3(source.bucket, location, Credentials(env))
    try:
        do(s3, source.prefix)
    finally:
        s3.close()


def _upload(s3: S3, prefix: str, folder: AttemptFolder, spec: RunSpec) -> None:
    above = "/".join(filter(None, (prefix, folder.run_id)))
    files = [(f"logs/{folder.attempt}.log", folder.log), *_written(folder, spec)]
    with ThreadPoolExecutor(FILES_AT_ONCE) as pool:
        done = [pool.submit(upload, s3, f"{above}/{key}", path) for key, path in files]
        for each in done:
            each.result()
    # Last: whoever sees it knows that all is there.
    upload(s3, f"{above}/logs/{folder.attempt}.end.json", folder.path / "end.json")


def _written(folder: AttemptFolder, spec: RunSpec) -> Iterator[tuple[str, Path]]:
    """Every file of output and checkpoints, by its key. No link is followed: it may lead anywhere. Raises `OSError`."""
    live = folder.live()
    for name, path in (
        ("output", live.output_dir),
        ("checkpoints", live.checkpoint_dir if spec.store is None else None),
    ):
        for above, _, files in os.walk(path, onerror=unless_gone) if path is not None else ():
            for file in files:
                found = Path(above) / file
                if found.is_file() and not found.is_symlink():
                    yield f"{name}/{found.relative_to(path or '/').as_posix()}", found
