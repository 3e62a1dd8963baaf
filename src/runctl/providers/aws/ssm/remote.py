"""What runs on the machine behind every SSM command: one request in, one answer of at most 24,000 characters out.

It is sent along as source, never imported there: Python's standard library alone, 3.7 or later. A command runs under
a small supervisor of its own, away from the SSM agent, with its output in a spool (see `spool`) that is read in
pieces.
"""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import select
import signal
import sys
import time
from pathlib import Path

from runctl.providers.aws.ssm.spool import (
    CHUNK,
    ROOM,
    STDERR_ROOM,
    Refused,
    append,
    cut,
    finish,
    finished,
    held,
    is_running,
    pack,
    pieces,
    receive,
    remove,
    spool,
    sweep,
    take,
    upload,
)

# Each request pays for what is imported: what few need is imported where they do, and `typing` never.
TYPE_CHECKING = False
if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable
    from typing import IO, Any

MACHINE_ROOT = "RUNCTL_MACHINE_ROOT"
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def start(request: dict[str, Any]) -> dict[str, Any]:
    """Run argv and wait for it for a while. The same id a second time is the same command."""
    folder = spool(request)
    sweep()
    before = finished(request)
    if before is not None:
        return before
    folder.mkdir(mode=0o700, exist_ok=True)
    lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    if not held(lock) and not (folder / "result").exists():
        stdin = receive(request["input"], folder)
        if "argv_bytes" in request:
            # They are private: the input begins with them.
            with stdin.open("rb") as source:
                request["argv"] = json.loads(source.read(request["argv_bytes"]))
        ended, tell = os.pipe()
        if os.fork() == 0:
            # The lock goes with it: as long as it is held, the supervisor lives.
            try:
                os.close(ended)
                supervise(request, folder, stdin)
            finally:
                os._exit(0)
        os.close(tell)
        select.select([ended], [], [], request["wait"])
    os.close(lock)
    return report(request)


def supervise(request: dict[str, Any], folder: Path, stdin: Path) -> None:
    """Run the command to its end and leave the result in the spool."""
    os.setsid()
    null = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    account = login(request["user"])
    outputs = [spool_file(folder / name, account) for name in ("out", "err")]
    stop: list[bool] = []
    signal.signal(signal.SIGTERM, lambda *_: stop.append(True))
    (folder / "pid").write_text(str(os.getpid()))
    result: dict[str, Any] = {"timed_out": False}
    try:
        process = launch(request, account, stdin, outputs)
    except OSError as error:
        os.write(outputs[1], os.fsencode(f"{request['argv'][0]}: {error.strerror}\n"))
        result["exit"] = 127 if isinstance(error, FileNotFoundError) else 126
    else:
        limit = float("inf") if request["timeout"] is None else time.monotonic() + request["timeout"]
        pause = 0.002
        while process.poll() is None:
            result["timed_out"] = time.monotonic() >= limit
            if stop or result["timed_out"]:
                end_session(process)
                break
            time.sleep(pause)
            pause = min(pause * 1.5, 0.05)
        result["exit"] = process.returncode if process.returncode >= 0 else 128 - process.returncode
    import hashlib

    for name in ("out", "err"):
        digest, size = hashlib.sha256(), 0
        for piece in pieces(folder / name):
            digest.update(piece)
            size += len(piece)
        result[name] = {"size": size, "sha256": digest.hexdigest()}
    # Gone when the caller dropped it: then nobody wants to know.
    with contextlib.suppress(FileNotFoundError):
        (folder / "result.new").write_text(json.dumps(result))
        (folder / "result.new").rename(folder / "result")


def spool_file(path: Path, account: pwd.struct_passwd) -> int:
    """An output file; the command's user may open it anew, as /dev/stderr does."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    if os.getuid() == 0:
        os.fchown(fd, account.pw_uid, account.pw_gid)
    return fd


def launch(
    request: dict[str, Any], account: pwd.struct_passwd, stdin: Path, outputs: list[int]
) -> subprocess.Popen[bytes]:
    """The command as its user, in a session of its own, in the login user's home."""
    import subprocess

    argv, owner = request["argv"], account
    if request["root"] and os.getuid() == 0:
        owner = login("root")
    elif request["root"]:
        argv = ["sudo", "-n", "-H", "--", *argv]

    def prepare() -> None:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.setsid()
        os.umask(0o022)
        become(owner)

    home = account.pw_dir if Path(account.pw_dir).is_dir() else "/"
    with stdin.open("rb") as source:
        os.lseek(source.fileno(), request.get("argv_bytes", 0), os.SEEK_SET)
        return subprocess.Popen(
            argv,
            stdin=source,
            stdout=outputs[0],
            stderr=outputs[1],
            cwd=home,
            env=environment(owner),
            preexec_fn=prepare,  # noqa: PLW1509 - there is one thread
        )


def login(name: str) -> pwd.struct_passwd:
    """The account; on a machine that is a folder of another computer, ours, with the home that it was given."""
    if MACHINE_ROOT not in os.environ:
        return pwd.getpwnam(name)
    uid, group = os.getuid(), os.getgid()
    try:
        own = pwd.getpwuid(uid).pw_name
    except KeyError:
        # A number without an entry, as containers give it.
        own = str(uid)
    return pwd.struct_passwd((own, "x", uid, group, "", os.environ.get("HOME", "/"), "/bin/sh"))


def become(account: pwd.struct_passwd) -> None:
    """Be that user from now on, for good."""
    if account.pw_uid != os.getuid():
        os.initgroups(account.pw_name, account.pw_gid)
        os.setgid(account.pw_gid)
        os.setuid(account.pw_uid)


def environment(owner: pwd.struct_passwd) -> dict[str, str]:
    """What a login has; the SSM agent's own environment has hardly anything."""
    if MACHINE_ROOT in os.environ:
        return dict(os.environ)
    return {
        "HOME": owner.pw_dir,
        "USER": owner.pw_name,
        "LOGNAME": owner.pw_name,
        "SHELL": owner.pw_shell or "/bin/sh",
        "PATH": PATH,
        "LANG": "C.UTF-8",
    }


def end_session(process: subprocess.Popen[bytes]) -> None:
    """SIGTERM, two seconds, SIGKILL, for every process of the command's session."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(OSError):
            os.killpg(process.pid, number)
        for pid in members(process.pid):
            with contextlib.suppress(OSError):
                os.kill(pid, number)
        limit = time.monotonic() + 2
        while time.monotonic() < limit:
            if process.poll() is not None and not members(process.pid):
                break
            time.sleep(0.02)
    process.wait()


def members(session: int) -> list[int]:
    """The living processes of a session."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            fields = (path / "stat").read_text().rpartition(")")[2].split()
            if fields[3] == str(session) and fields[0] != "Z":
                found.append(int(path.name))
    return found


def poll(request: dict[str, Any]) -> dict[str, Any]:
    """What came since the offsets, at once or as soon as something comes within ``wait`` seconds."""
    folder = spool(request)
    limit = time.monotonic() + request["wait"]
    while time.monotonic() < limit and is_running(folder) and not (folder / "result").exists():
        if any((folder / name).stat().st_size > request[name] for name in ("out", "err")):
            break
        time.sleep(0.05)
    return report(request)


def report(request: dict[str, Any]) -> dict[str, Any]:
    """How the command is and what it wrote since the offsets ``out`` and ``err``, as much as fits.

    When it has ended, ``packed`` says how many bytes what did not fit has when compressed, ready for `cut` and
    `upload`; when everything fitted the spool is gone.
    """
    folder = spool(request)
    before = finished(request)
    if before is not None:
        return before
    # In this order: it leaves its result before it ends.
    running = is_running(folder)
    answer: dict[str, Any] = {"out": {}, "err": {}}
    with contextlib.suppress(FileNotFoundError):
        answer = json.loads((folder / "result").read_text())
    answer["done"] = "exit" in answer
    if not answer["done"] and not running:
        raise Refused("lost", "the command's supervisor was killed, or its spool removed")
    room, kept = ROOM, not answer["done"]
    for name, most in (("err", STDERR_ROOM), ("out", ROOM)):
        data, size = take(folder / name, request[name], min(most, room))
        room -= len(data)
        answer[name]["data"] = data
        if answer["done"] and request[name] + size < answer[name]["size"]:
            answer[name]["packed"] = pack(folder, name, request[name] + size)
            kept = True
    answer["kept"] = kept
    return answer if kept else finish(request, answer)


def put(request: dict[str, Any]) -> dict[str, Any]:
    """The input becomes a file of the user's, or nothing does. The same id a second time changes nothing."""
    before = finished(request)
    if before is not None:
        return before
    folder = spool(request)
    folder.mkdir(mode=0o700, exist_ok=True)
    try:
        with receive(request["input"], folder).open("rb") as source:
            problem_reader, problem_writer = os.pipe()
            child = os.fork()
            if child == 0:
                os.write(problem_writer, os.fsencode(write_as_user(request, source)))
                os._exit(0)
            os.close(problem_writer)
            with os.fdopen(problem_reader, "rb") as file:
                problem = file.read().decode(errors="replace")
            os.waitpid(child, 0)
    finally:
        remove(folder)
    if problem != "written":
        raise Refused("write", problem or "the writer was killed")
    return finish(request, {})


def write_as_user(request: dict[str, Any], source: IO[bytes]) -> str:
    """Give up root for good, then write; returns what to tell the parent."""
    import shutil
    import tempfile

    temporary = ""
    try:
        account = login(request["user"])
        become(account)
        os.umask(0o022)
        target = Path(account.pw_dir) / request["target"]
        target.parent.mkdir(parents=True, exist_ok=True)
        fd, temporary = tempfile.mkstemp(dir=str(target.parent), prefix=target.name[:100] + ".")
        with os.fdopen(fd, "wb") as sink:
            shutil.copyfileobj(source, sink, CHUNK)
            os.fchmod(fd, request["mode"])
        Path(temporary).rename(target)
    except Exception as error:  # noqa: BLE001 - whatever it is, the parent tells it
        if temporary:
            Path(temporary).unlink()
        return str(error)
    return "written"


def drop(request: dict[str, Any]) -> dict[str, Any]:
    """The command is ended if it still runs, and its spool is gone."""
    folder = spool(request)
    limit = time.monotonic() + 8
    while is_running(folder) and time.monotonic() < limit:
        with contextlib.suppress(OSError, ValueError):
            os.kill(int((folder / "pid").read_text()), signal.SIGTERM)
        time.sleep(0.05)
    # Also one that was never here: its start may be on its way.
    finish(request, {"dropped": True})
    return {}


VERBS: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "start": start,
    "poll": poll,
    "cut": cut,
    "upload": upload,
    "append": append,
    "put": put,
    "drop": drop,
}


def main() -> None:
    """Answer one request."""
    os.umask(0o077)
    request = json.loads(sys.stdin.readline())
    answer: dict[str, Any]
    try:
        answer = {"ok": VERBS[request["op"]](request)}
    except Refused as error:
        answer = {"error": {"code": error.code, "message": str(error)}}
    except Exception as error:  # noqa: BLE001 - whatever it is, the caller gets an answer
        answer = {"error": {"code": "remote", "message": f"{type(error).__name__}: {error}"}}
    sys.stdout.write(json.dumps(answer))


if __name__ == "__main__":
    main()
