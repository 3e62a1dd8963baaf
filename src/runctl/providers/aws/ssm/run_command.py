"""One request to one machine through SSM Run Command: send, wait, answer."""

from __future__ import annotations

import base64
import functools
import json
import secrets
import shlex
import zlib
from collections.abc import Mapping
from datetime import timedelta
from importlib import resources
from typing import Any

from runctl.agent.encoding import loads
from runctl.core.clock import Clock, SystemClock
from runctl.core.errors import (
    CredentialsError,
    MachineError,
    OutcomeUnknown,
    PermissionDenied,
    ProviderError,
    RunctlError,
    Unreachable,
    Unsupported,
)
from runctl.core.waiting import Backoff, attempts
from runctl.transport.silence import Silence, StillThere, nothing_known

REQUEST_LIMIT = 48_000
"""Characters. A document with its parameters may have 64 KB (SSM's CreateDocument), of which AWS's own and our
program have about 10."""
OUTPUT_LIMIT = 24_000
"""Characters of StandardOutputContent that GetCommandInvocation returns."""
_DELIVERY_SECONDS = 60
"""For the machine's SSM agent to take the command up; 30 is the smallest that SendCommand allows."""
_ANSWER_SECONDS = 60
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 1.0
_SENDINGS = 3
"""How often a command is sent whose answer was lost. The program on the machine carries an id out once."""
_FIND_TIMEOUT = timedelta(seconds=5)
"""For a command whose answer was lost to be in the list of commands, which lags behind."""
_BOOT = (
    "import sys,zlib,binascii;"
    "exec(compile(zlib.decompress(binascii.a2b_base64(sys.stdin.readline())),'runctl','exec'))"
)
# Data comes through stdin, because arguments can be seen by everybody on the machine.
_FIRST_LINE = "exec " + shlex.join(["python3", "-I", "-S", "-c", _BOOT]) + " <<'RUNCTL'"
_LAST_LINE = "RUNCTL"

_CREDENTIALS = frozenset(
    {
        "ExpiredToken",
        "ExpiredTokenException",
        "InvalidClientTokenId",
        "InvalidSignatureException",
        "UnrecognizedClientException",
    }
)
_DENIED = frozenset({"AccessDenied", "AccessDeniedException", "UnauthorizedOperation"})
_BUSY = frozenset(
    {"InternalServerError", "RateExceeded", "ServiceUnavailable", "Throttling", "ThrottlingException"}
)
_NOT_REGISTERED = (
    "its SSM agent has not registered: it needs an instance profile with AmazonSSMManagedInstanceCore, a way to the "
    "internet or VPC endpoints, and a minute after boot"
)


class RemoteError(MachineError):
    """The program on the machine refused; ``code`` is its own."""


class RunCommand:
    """Requests to the program in `remote` on one instance."""

    def __init__(
        self,
        client: Any,
        instance_id: str,
        *,
        still_there: StillThere = nothing_known,
        clock: Clock | None = None,
    ) -> None:
        """``still_there`` is what `Silence` asks."""
        self.client = client
        self.instance_id = instance_id
        self._still_there = still_there
        self._clock = clock or SystemClock()

    def ask(self, verb: str, request: Mapping[str, Any], *, wait: float = 0) -> dict[str, Any]:
        """The program's answer; it is expected to take no more than ``wait`` seconds and a bit.

        Raises `RemoteError` when the program refused, `Unreachable` when no answer came, `InstanceEnded` when the
        provider says so, `MachineError` where there is no Python.
        """
        try:
            command_id = self._send(verb, request, wait)
        except Unreachable:
            self._still_there(float("inf"))
            raise
        try:
            invocation = self._wait(command_id, wait)
        except Unreachable:
            self._cancel(command_id)
            raise
        return self._answer(invocation)

    def call(self, operation: str, **parameters: Any) -> Any:
        """One API call, its errors as ours."""
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            return getattr(self.client, operation)(**parameters)
        except ClientError as error:
            raise self._classify(error.response.get("Error", {}), operation) from error
        except BotoCoreError as error:
            if type(error).__name__ in {
                "NoCredentialsError",
                "PartialCredentialsError",
                "TokenRetrievalError",
            }:
                raise CredentialsError(f"AWS: {error}", hint="aws configure, or set AWS_PROFILE") from error
            raise Unreachable(f"AWS Systems Manager does not answer: {error}") from error

    def tell(self, verb: str, request: Mapping[str, Any]) -> None:
        """Send it and wait for nothing."""
        self._send(verb, request, 0)

    def _send(self, verb: str, request: Mapping[str, Any], wait: float) -> str:
        line = _json_line({**request, "op": verb})
        if len(line) > REQUEST_LIMIT:
            raise Unsupported(
                f"SSM takes commands of {REQUEST_LIMIT:,} characters, this one has {len(line):,}",
                hint="pass long arguments in a file, or use --transport ssh",
            )
        # By it a command is found again whose answer was lost.
        comment = f"runctl {secrets.token_hex(12)}"
        for left in reversed(range(_SENDINGS)):
            try:
                sent = self.call(
                    "send_command",
                    InstanceIds=[self.instance_id],
                    DocumentName="AWS-RunShellScript",
                    Comment=comment,
                    TimeoutSeconds=_DELIVERY_SECONDS,
                    Parameters={
                        "commands": [_FIRST_LINE, _program(), line, _LAST_LINE],
                        "executionTimeout": [str(round(wait) + 600)],
                    },
                )
            except OutcomeUnknown:
                found = self._find(comment)
                if found is not None:
                    return found
                if not left:
                    raise
            else:
                return str(sent["Command"]["CommandId"])
        raise AssertionError

    def _find(self, comment: str) -> str | None:
        """The id of the command that has this comment, if it was sent."""
        for _ in attempts(self._clock, _FIND_TIMEOUT, first=1.0):
            try:
                # The newest come first.
                answer = self.call("list_commands", InstanceId=self.instance_id, MaxResults=50)
            except RunctlError:
                # Without leave to list them it is sent again, and the machine knows the id.
                return None
            for command in answer.get("Commands", ()):
                if command.get("Comment") == comment:
                    return str(command["CommandId"])
        return None

    def _wait(self, command_id: str, wait: float) -> Mapping[str, Any]:
        """The ended invocation."""
        taken_up = False
        silence = Silence(self._still_there, monotonic=self._clock.monotonic)
        limit = self._clock.monotonic() + _DELIVERY_SECONDS + _ANSWER_SECONDS
        # No machine has an answer at once, and asking is rationed: the first pause comes before the first question.
        backoff = Backoff(self._clock, first=_FIRST_PAUSE, most=_LONGEST_PAUSE)
        while True:
            backoff.sleep()
            try:
                invocation = self.call(
                    "get_command_invocation", CommandId=command_id, InstanceId=self.instance_id
                )
            except (_NotYet, _Busy):
                invocation = {"Status": "Pending"}
            status = invocation["Status"]
            if status == "InProgress" and not taken_up:
                taken_up = True
                limit = self._clock.monotonic() + wait + _ANSWER_SECONDS
            if status not in {"Pending", "InProgress", "Delayed", "Cancelling"}:
                return dict(invocation)
            silence.check()
            if self._clock.monotonic() >= limit:
                raise Unreachable(
                    f"{self.instance_id} does not answer through SSM ({status})",
                    hint="is the instance running, and its SSM agent with it?",
                )

    def _answer(self, invocation: Mapping[str, Any]) -> dict[str, Any]:
        status, details = invocation["Status"], invocation.get("StatusDetails") or invocation["Status"]
        output, problem = invocation["StandardOutputContent"], invocation["StandardErrorContent"].strip()
        if status in {"TimedOut", "Cancelled"} or details in {
            "Undeliverable",
            "Terminated",
            "DeliveryTimedOut",
        }:
            raise Unreachable(
                f"SSM could not carry out the command on {self.instance_id}: {details}", hint=_NOT_REGISTERED
            )
        if invocation.get("ResponseCode") == 127:
            raise MachineError(
                f"{self.instance_id} has no Python: {problem}",
                hint="install python3 on it, or choose an image that has it",
                code="no-python",
            )
        try:
            answer = loads(output)
        except ValueError:
            raise MachineError(
                f"the SSM command on {self.instance_id} ended as {details}: {problem or output[-400:]}",
                code="bad-answer",
            ) from None
        if "error" in answer:
            raise RemoteError(
                f"{self.instance_id}: {answer['error']['message']}", code=answer["error"]["code"]
            )
        return dict(answer["ok"])

    def _cancel(self, command_id: str) -> None:
        try:
            self.call("cancel_command", CommandId=command_id, InstanceIds=[self.instance_id])
        except RunctlError:
            # The error that led here says more.
            return

    def _classify(self, error: Mapping[str, Any], operation: str) -> RunctlError:
        code, message = str(error.get("Code", "")), str(error.get("Message", ""))
        if code == "InvocationDoesNotExist":
            return _NotYet(message)
        if code == "InvalidInstanceId":
            return Unreachable(f"SSM does not know {self.instance_id}", hint=_NOT_REGISTERED)
        if code in _DENIED:
            action = "".join(part.capitalize() for part in operation.split("_"))
            return PermissionDenied(
                f"AWS does not allow ssm:{action}: {message}", hint="allow it, or --transport ssh"
            )
        if code in _CREDENTIALS:
            return CredentialsError(
                f"AWS refuses the credentials: {message}", hint="log in again (aws sso login)"
            )
        if code in _BUSY:
            return _Busy(f"AWS Systems Manager is busy: {message}", hint="try again in a minute")
        return ProviderError(f"SSM's {operation} failed: {code}: {message}")


class _NotYet(ProviderError):
    """Normal for a moment after SendCommand."""


class _Busy(Unreachable):
    """Throttled, even after boto3's own retries."""


def _json_line(request: Mapping[str, Any]) -> str:
    # SSM replaces {{ssm:...}} in parameters; two braces next to each other occur in JSON's strings only.
    return json.dumps(request, separators=(",", ":")).replace("{{", r"\u007b\u007b")


@functools.cache
def _program() -> str:
    """One source of both modules: the machine has nothing of ours that it could import."""
    folder = resources.files("runctl.providers.aws.ssm")
    spool, remote = (folder.joinpath(f"{name}.py").read_text("utf-8") for name in ("spool", "remote"))
    name = "runctl.providers.aws.ssm.spool"
    source = (
        "import sys, types\n"
        f"spool = sys.modules[{name!r}] = types.ModuleType({name!r})\n"
        f"exec(compile({spool!r}, 'ssm_spool', 'exec'), vars(spool))\n"
        f"exec(compile({remote!r}, 'ssm_remote', 'exec'))\n"
    )
    return base64.b64encode(zlib.compress(source.encode(), 9)).decode()
