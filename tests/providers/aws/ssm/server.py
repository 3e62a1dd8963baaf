"""Systems Manager's side of Run Command, as strict as AWS: scripts really run, on this computer, by sh."""

from __future__ import annotations

import contextlib
import http.server
import json
import os
import signal
import subprocess
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from botocore.exceptions import ClientError

from runctl.core.clock import SystemClock
from runctl.core.errors import OutcomeUnknown
from runctl.providers.aws.ssm import spool as ssm_spool

STDOUT_LIMIT = 24_000
STDERR_LIMIT = 8_000
DOCUMENT_LIMIT = 65_536
DOCUMENT_OWN_SIZE = 1_500
"""Of AWS-RunShellScript, about."""


class HurriedClock(SystemClock):
    """Pauses between two questions are shorter than AWS deserves."""

    def sleep(self, seconds: float) -> None:
        """A quarter of that."""
        super().sleep(seconds / 4)


HURRY = HurriedClock()


def client_error(operation: str, code: str, message: str = "") -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": message}}, operation)


class FakeSsm:
    """boto3's ssm client as far as runctl uses it; raises on what it does not know.

    The environment of a command is the SSM agent's: root, no HOME, in /.
    """

    def __init__(self, folder: Path, instance_id: str = "i-0123456789abcdef0") -> None:
        self.folder = folder
        self.instance_id = instance_id
        self.sent: list[dict[str, Any]] = []
        self.cancelled: list[str] = []
        self.fail_next: list[ClientError] = []
        """Raised by the next calls, one each."""
        self.deaf = False
        """The machine's agent does not take commands up."""
        self.lose: list[str] = []
        """What becomes of the next commands: ``carried-out`` or ``never-arrived``, without an answer; ``twice``: as
        ``carried-out``, and the command cannot be found by listing."""
        self.path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        self.env: dict[str, str] = {}
        self.prefix: list[str] = []
        """What commands are run by: another user, for one."""
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._asked: set[str] = set()
        self._lock = threading.Lock()

    def requests(self) -> list[dict[str, Any]]:
        """What the machine was asked, in order."""
        return [json.loads(sent["Parameters"]["commands"][2]) for sent in self.sent]

    def verbs(self) -> list[str]:
        """What was asked of it, each by its name."""
        return [request["op"] for request in self.requests()]

    def send_command(
        self,
        *,
        InstanceIds: list[str],  # noqa: N803 - AWS's names
        DocumentName: str,  # noqa: N803
        Parameters: dict[str, list[str]],  # noqa: N803
        TimeoutSeconds: int = 3600,  # noqa: N803
        Comment: str = "",  # noqa: N803
    ) -> dict[str, Any]:
        self._maybe_fail()
        self._check_instance(InstanceIds, "SendCommand")
        assert DocumentName == "AWS-RunShellScript"
        assert set(Parameters) <= {"commands", "workingDirectory", "executionTimeout"}
        assert 30 <= TimeoutSeconds <= 2_592_000
        assert len(Comment) <= 100
        assert all(isinstance(line, str) for line in Parameters["commands"])
        (timeout,) = Parameters.get("executionTimeout", ["3600"])
        assert 1 <= int(timeout) <= 172_800
        if any("{{" in line for line in Parameters["commands"]):
            raise client_error("SendCommand", "InvalidParameters", "no such parameter")
        size = sum(len(line.encode()) for values in Parameters.values() for line in values)
        if size + DOCUMENT_OWN_SIZE > DOCUMENT_LIMIT:
            raise client_error("SendCommand", "MaxDocumentSizeExceeded", f"{size} bytes")
        fate = self.lose.pop(0) if self.lose else ""
        if fate == "never-arrived":
            raise OutcomeUnknown("no answer to SendCommand")
        command_id = str(uuid.uuid4())
        shown = "" if fate == "twice" else Comment
        self.sent.append({"CommandId": command_id, "Parameters": Parameters, "Comment": shown})
        if not self.deaf:
            self._start(command_id, Parameters["commands"])
        if fate:
            # It has come to its end before anybody sends it again.
            self._processes[command_id].wait()
            raise OutcomeUnknown("no answer to SendCommand")
        return {"Command": {"CommandId": command_id, "Status": "Pending"}}

    def get_command_invocation(self, *, CommandId: str, InstanceId: str) -> dict[str, Any]:  # noqa: N803
        self._maybe_fail()
        assert InstanceId == self.instance_id
        with self._lock:
            first = CommandId not in self._asked
            self._asked.add(CommandId)
        if first:
            # As AWS does right after SendCommand.
            raise client_error("GetCommandInvocation", "InvocationDoesNotExist")
        if self.deaf:
            return self._invocation("Pending", "Pending", -1)
        process = self._processes[CommandId]
        code = process.poll()
        if CommandId in self.cancelled:
            return self._invocation("Cancelled", "Cancelled", -1)
        if code is None:
            return self._invocation("InProgress", "InProgress", -1)
        out = (self.folder / f"{CommandId}.out").read_bytes().decode(errors="replace")
        err = (self.folder / f"{CommandId}.err").read_bytes().decode(errors="replace")
        status = "Success" if code == 0 else "Failed"
        return self._invocation(status, status, code, out[:STDOUT_LIMIT], err[:STDERR_LIMIT])

    def list_commands(self, *, InstanceId: str, MaxResults: int) -> dict[str, Any]:  # noqa: N803
        assert InstanceId == self.instance_id
        assert 1 <= MaxResults <= 50
        newest = [{key: sent[key] for key in ("CommandId", "Comment")} for sent in reversed(self.sent)]
        return {"Commands": newest[:MaxResults]}

    def cancel_command(self, *, CommandId: str, InstanceIds: list[str]) -> dict[str, Any]:  # noqa: N803
        self._check_instance(InstanceIds, "CancelCommand")
        self.cancelled.append(CommandId)
        process = self._processes.get(CommandId)
        if process is not None and process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        return {}

    def running(self) -> list[subprocess.Popen[bytes]]:
        return [process for process in list(self._processes.values()) if process.poll() is None]

    def close(self) -> None:
        """What was told to clean up may finish."""
        limit = time.monotonic() + 10
        while self.running() and time.monotonic() < limit:
            time.sleep(0.02)
        for process in self._processes.values():
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        for sent in self.sent:
            # A machine keeps them for an hour; this computer is only playing one.
            with contextlib.suppress(ssm_spool.Refused):
                spool = ssm_spool.spool(json.loads(sent["Parameters"]["commands"][2]))
                spool.with_name(spool.name + ssm_spool.DONE).unlink(missing_ok=True)

    def _start(self, command_id: str, commands: list[str]) -> None:
        # Not as a file: whoever runs it need not be allowed to read what is in our folder.
        script = "\n".join(commands) + "\n"
        with (
            (self.folder / f"{command_id}.out").open("wb") as out,
            (self.folder / f"{command_id}.err").open("wb") as err,
        ):
            self._processes[command_id] = subprocess.Popen(
                [*self.prefix, "/bin/sh", "-c", script],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                cwd="/",
                env={"PATH": self.path, **self.env},
                process_group=0,
            )

    def _check_instance(self, ids: list[str], operation: str) -> None:
        if ids != [self.instance_id]:
            raise client_error(operation, "InvalidInstanceId", f"Instances not in a valid state: {ids}")

    def _maybe_fail(self) -> None:
        if self.fail_next:
            raise self.fail_next.pop(0)

    @staticmethod
    def _invocation(status: str, details: str, code: int, out: str = "", err: str = "") -> dict[str, Any]:
        return {
            "Status": status,
            "StatusDetails": details,
            "ResponseCode": code,
            "StandardOutputContent": out,
            "StandardErrorContent": err,
        }


class FolderStaging:
    """A staging store behind a small web server on this computer."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder = folder
        self.url = url
        self.keys: list[str] = []

    def put_url(self, key: str) -> str:
        return f"{self.url}/{key}"

    get_url = put_url

    def write(self, key: str, source: BinaryIO) -> None:
        self.keys.append(key)
        path = self.folder / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(source.read())

    def read(self, key: str, sink: BinaryIO) -> None:
        self.keys.append(key)
        sink.write((self.folder / key).read_bytes())

    def delete(self, key: str) -> None:
        (self.folder / key).unlink(missing_ok=True)


@contextlib.contextmanager
def staging(folder: Path) -> Iterator[FolderStaging]:
    """A staging store for the length of the block."""

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args, directory=str(folder))

        def do_PUT(self) -> None:
            path = Path(self.translate_path(self.path))
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield FolderStaging(folder, f"http://127.0.0.1:{server.server_port}")
        finally:
            server.shutdown()
            thread.join()
