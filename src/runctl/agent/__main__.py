"""The agent's command line: one verb, a JSON object on stdin, one on stdout."""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Mapping

    Verb = Callable[[Mapping[str, Any]], Any]

# Modules are imported when their verb is called: start-up is part of every round trip.
VERBS: dict[str, tuple[str, str]] = {
    "version": ("facts", "version"),
    "diagnose": ("diagnose", "diagnose"),
    "check": ("checks", "check_machine"),
    "start": ("start", "start"),
    "status": ("status", "status"),
    "list": ("status", "list_attempts"),
    "stop": ("stop", "stop"),
    "mounts": ("volumes", "mounts"),
    "attach": ("volumes", "attach"),
    "detach": ("volumes", "detach"),
    "grow": ("volumes", "grow"),
    "freeze": ("volumes", "freeze"),
    "thaw": ("volumes", "thaw"),
    "entrust": ("entrust", "entrust"),
    "image": ("image", "look"),
    "docker-root": ("docker_root", "docker_root"),
    "manifest": ("trees", "manifest"),
    "runs": ("prune", "runs"),
    "prune": ("prune", "prune"),
    "files": ("files", "files"),
    "files-have": ("files", "have"),
    "files-finish": ("files", "finish"),
}
INTERNAL = ("supervise", "exec", "collect")


def main(argv: list[str] | None = None) -> int:
    """Run one verb and return the exit code: 0, or 1 when the answer is an error."""
    words = sys.argv[1:] if argv is None else argv
    verb = words[0] if words else ""
    # What the agent makes is for its user (and root); what others may see is opened explicitly.
    os.umask(0o022)
    if verb == "supervise":
        from runctl.agent.supervisor import supervise

        return supervise(words[1:])
    if verb == "collect":
        from runctl.agent.collector import collect

        return collect(words[1:])
    if verb == "exec":
        from runctl.agent.docker import exec_from_stdin

        return exec_from_stdin()
    try:
        if verb == "sync":
            from runctl.agent.tree_session import sync

            return sync(words[1:], sys.stdin.buffer, sys.stdout.buffer)
        return _run(verb)
    except BrokenPipeError:
        # The reader has gone; there is nobody to tell.
        sys.stdout = open(os.devnull, "w")  # noqa: PTH123, SIM115
        return 1


def _run(verb: str) -> int:
    from runctl.agent.errors import AgentError, unexpected
    from runctl.agent.spec import dumps

    try:
        if verb == "logs":
            from runctl.agent.logs import logs

            return logs(_request(sys.stdin.buffer.read()), sys.stdout.buffer)
        if verb == "files-fetch":
            from runctl.agent.files import fetch

            return fetch(_request(sys.stdin.buffer.read()), sys.stdout.buffer)
        if verb == "apply":
            answer = _apply()
        elif verb == "files-store":
            from runctl.agent.files import store

            answer = store(_request(sys.stdin.buffer.readline()), sys.stdin.buffer)
        elif verb in VERBS:
            import importlib

            module, function = VERBS[verb]
            call: Verb = getattr(importlib.import_module("runctl.agent." + module), function)
            answer = call(_request(sys.stdin.buffer.read()))
        else:
            known = ", ".join(sorted([*VERBS, "logs", "apply", "sync", "files-fetch", "files-store"]))
            raise AgentError(  # noqa: TRY301 (answered like every other error)
                "bad-request", "the agent has no verb {!r}".format(verb), "it has " + known
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
    from runctl.agent.trees import apply

    request = _request(sys.stdin.buffer.readline())
    return apply(request, sys.stdin.buffer)


def _request(data: bytes) -> Mapping[str, Any]:
    from runctl.agent.errors import AgentError
    from runctl.agent.request import checked
    from runctl.agent.spec import loads

    try:
        request = loads(data.decode() or "{}")
    except ValueError as error:
        raise AgentError("bad-request", "stdin is no JSON: {}".format(error)) from error
    return checked(request)


def _answer(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
