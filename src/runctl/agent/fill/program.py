"""The command line of ``fill``, which a run on the machine starts as it starts any script."""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import FrameType

from runctl.agent.errors import AgentError
from runctl.agent.fill.report import Report

STOPPED = 143


def fill(argv: Sequence[str]) -> int:
    """Exit code 0 when all is there and proven, 1 when not (the last line says why), 143 when stopped."""
    options = _options(argv)
    report = Report()
    signal.signal(signal.SIGTERM, _stop)
    try:
        return _carried_out(options, report)
    finally:
        if options.end_machine_in is not None:
            _end_machine(options.end_machine_in)


def _carried_out(options: argparse.Namespace, report: Report) -> int:
    try:
        options.action(options, report)
    except AgentError as error:
        report.say("error", code=error.code, message=error.message, hint=error.hint)
        return 1
    except OSError as error:
        report.say("error", code="cannot-write", message=str(error), hint="")
        return 1
    except KeyboardInterrupt:
        report.say("error", code="stopped", message="stopped; what was done is kept", hint="")
        return STOPPED
    return 0


def _options(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="fill", description="Fill a volume, or read all of it.")
    verbs = parser.add_subparsers(required=True)
    s3 = verbs.add_parser("s3", help="fill a folder from S3")
    s3.add_argument("source", help="s3://bucket/folder")
    s3.add_argument("into", type=Path, help="the folder to fill")
    s3.add_argument("--region", required=True, help="the bucket's")
    s3.add_argument("--mount-point", type=Path, help="refuse to write unless something is mounted there")
    s3.add_argument("--delete", action="store_true", help="remove what was filled before and is gone from S3")
    s3.add_argument("--listing", default="", help="refuse to begin unless S3 has what this is the digest of")
    s3.set_defaults(action=_s3)
    blocks = verbs.add_parser("blocks", help="read every block of a device")
    blocks.add_argument("device", help="its path, or the id of an attached EBS volume")
    blocks.set_defaults(action=_blocks)
    for verb in (s3, blocks):
        verb.add_argument(
            "--end-machine-in",
            type=int,
            metavar="MINUTES",
            help="afterwards shut the machine down that soon, unless it is taken over or ended before",
        )
    return parser.parse_args(argv)


def _end_machine(minutes: int) -> None:
    """Whoever rented the machine for this ends it now; if nobody does any more, it ends itself."""
    command = ["sudo", "-n", "shutdown", "-h", f"+{minutes}"]
    with suppress(OSError):
        subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False)


def _s3(options: argparse.Namespace, report: Report) -> None:
    from runctl.agent.cloud.s3 import Location
    from runctl.agent.fill.filling import Request, fill_folder
    from runctl.agent.object_store import parse_source

    try:
        source = parse_source(options.source)
    except ValueError as error:
        raise AgentError("bad-source", str(error)) from error
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL", "")
    location = Location(options.region, endpoint)
    request = Request(source, location, options.into, options.mount_point, options.delete, options.listing)
    fill_folder(request, report, os.environ)


def _blocks(options: argparse.Namespace, report: Report) -> None:
    from runctl.agent.fill.blocks import device_of, read_device

    read_device(device_of(options.device), report)


def _stop(_signal: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt
