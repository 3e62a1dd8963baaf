"""The agent's command line: one verb, a JSON object on stdin, one on stdout."""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any, Callable

    Verb = Callable[[Mapping[str, Any]], Any]

# Modules are imported when their verb is called: start-up is part of every round trip.
VERBS: dict[str, tuple[str, str]] = {
    "version": ("machine.facts", "version"),
    "check": ("supervising.checks", "check_machine"),
    "start": ("supervising.start", "start"),
    "start-again": ("supervising.start", "restart"),
    "status": ("supervising.status", "status"),
    "list": ("supervising.status", "list_attempts"),
    "stop": ("supervising.stop", "stop"),
    "interrupt": ("supervising.stop", "interrupt"),
    "end-machine-at-boot": ("supervising.machine_end", "at_boot"),
    "fetched": ("supervising.machine_end", "fetched"),
    "take-up": ("supervising.take_up", "take_up"),
    "limits": ("machine.limits", "limits"),
    "mounts": ("disks.volumes", "mounts"),
    "attach": ("disks.volumes", "attach"),
    "detach": ("disks.volumes", "detach"),
    "grow": ("disks.volumes", "grow"),
    "freeze": ("disks.volumes", "freeze"),
    "thaw": ("disks.volumes", "thaw"),
    "entrust": ("images.credentials", "entrust"),
    "image": ("images.image", "has_image"),
    "docker-root": ("containers.docker_root", "docker_root"),
    "manifest": ("trees.verbs", "manifest"),
    "runs": ("supervising.prune", "runs"),
    "prune": ("supervising.prune", "prune"),
    "checkpoints": ("checkpoints.verbs", "checkpoints"),
    "checkpoints-place": ("checkpoints.verbs", "place"),
    "checkpoints-remove": ("checkpoints.verbs", "remove"),
    "files": ("files.protocol", "files"),
    "files-have": ("files.protocol", "have"),
    "files-finish": ("files.protocol", "finish"),
}


def main(argv: list[str] | None = None) -> int:
    """Run one verb and return the exit code: 0, or 1 when the answer is an error."""
    arguments = sys.argv[1:] if argv is None else argv
    verb = arguments[0] if arguments else ""
    # What the agent makes is for its user (and root); what others may see is opened explicitly.
    os.umask(0o022)
    if verb == "supervise":
        from runctl.agent.supervising.supervisor import supervise

        return supervise(arguments[1:])
    if verb == "end-machine":
        from runctl.agent.supervising.machine_end import end_machine

        return end_machine(arguments[1:])
    if verb == "keep-run":
        from runctl.agent.supervising.take_up import keep_run

        return keep_run(arguments[1:])
    if verb == "collect":
        from runctl.agent.attempt.collector import collect

        return collect(arguments[1:])
    if verb in ("publish", "restore"):
        from runctl.agent.supervising import publish_process

        return (publish_process.publish if verb == "publish" else publish_process.fetch)(arguments[1:])
    if verb == "fill":
        from runctl.agent.fill.program import fill

        return fill(arguments[1:])
    if verb == "exec":
        from runctl.agent.machine.docker import exec_from_stdin

        return exec_from_stdin()
    try:
        if verb == "sync":
            from runctl.agent.trees.session import sync

            return sync(arguments[1:], sys.stdin.buffer, sys.stdout.buffer)
        return _run(verb)
    except BrokenPipeError:
        # The reader has gone; there is nobody to tell.
        sys.stdout = open(os.devnull, "w")  # noqa: PTH123, SIM115
        return 1


def _run(verb: str) -> int:
    from runctl.agent.encoding import dumps
    from runctl.agent.errors import AgentError, unexpected

    try:
        if verb == "logs":
            from runctl.agent.supervising.logs import logs

            return logs(_request(sys.stdin.buffer.read()), sys.stdout.buffer)
        if verb == "files-fetch":
            from runctl.agent.files.protocol import fetch

            return fetch(_request(sys.stdin.buffer.read()), sys.stdout.buffer)
        if verb == "apply":
            answer = _apply()
        elif verb == "files-store":
            from runctl.agent.files.protocol import store

            answer = store(_request(sys.stdin.buffer.readline()), sys.stdin.buffer)
        elif verb in VERBS:
            import importlib

            module, function = VERBS[verb]
            call: Verb = getattr(importlib.import_module("runctl.agent." + module), function)
            answer = call(_request(sys.stdin.buffer.read()))
        else:
            known = ", ".join(sorted([*VERBS, "logs", "apply", "sync", "files-fetch", "files-store"]))
            raise AgentError(  # noqa: TRY301 (answered like every other error)
                "bad-request", f"the agent has no verb {verb!r}", "it has " + known
            )
    except AgentError as error:
        _answer(dumps({"error": error.to_json()}))
        return 1
    except Exception as error:  # noqa: BLE001 (whatever it is, the other side gets JSON)
        _answer(dumps({"error": unexpected(verb, error)}))
        return 1
    _answer(dumps({"ok": answer}))
    return 0


def _apply() -> Any:
    """The request is the first line of stdin; the pack is the rest, unless the request says where it lies."""
    from runctl.agent.trees.verbs import apply

    request = _request(sys.stdin.buffer.readline())
    return apply(request, sys.stdin.buffer)


def _request(data: bytes) -> Mapping[str, Any]:
    from runctl.agent.encoding import loads
    from runctl.agent.errors import AgentError
    from runctl.agent.request import checked

    try:
        request = loads(data.decode() or "{}")
    except ValueError as error:
        raise AgentError("bad-request", f"stdin is not JSON: {error}") from error
    return checked(request)


def _answer(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
