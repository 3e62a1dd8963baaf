"""The one place where git is called: on folders of strangers, so that nothing in them is executed.

A repository's own configuration names programs: a file system monitor, hooks, how a remote is reached, filters. A
cloned repository has none of it, an unpacked archive may. git itself refuses a repository that belongs to another
user (``safe.directory``). The program and no library: it alone reads every version of its index and ignore rules, and
it is there wherever there are repositories.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from runctl.core.run_models import GitState

GIT_SECONDS = 120
_NOTHING_RUNS = (
    *("-c", "core.fsmonitor=false"),
    *("-c", "core.hooksPath=/dev/null"),
    *("-c", "core.sshCommand=false"),
    *("-c", "core.gitProxy="),
    *("-c", "core.askPass="),
    *("-c", "core.pager=cat"),
    *("-c", "credential.helper="),
    *("-c", "diff.external="),
    *("-c", "gpg.program=false"),
    *("-c", "uploadpack.packObjectsHook="),
    *("-c", "submodule.recurse=false"),
)
_KEPT_VARIABLES = (
    "GIT_CONFIG",
    "GIT_CEILING_DIRECTORIES",
    "GIT_DISCOVERY_ACROSS_FILESYSTEM",
    "GIT_EXEC_PATH",
)
"""The user's own settings. All others are left out: inside a hook they speak of another repository."""


class GitFailed(Exception):
    """git cannot say; the message is its own."""


def run_git(
    folder: Path, *arguments: str, stdin: bytes | None = None, accepted: Sequence[int] = (0,)
) -> bytes:
    """What git prints about a folder: it reads, writes nothing, reaches no remote, and runs none of its programs.

    Commands that compare contents (``status``, ``diff``) need `no_filters` besides. Raises `GitFailed`.
    """
    return run_git_with_warnings(folder, *arguments, stdin=stdin, accepted=accepted)[0]


def run_git_with_warnings(
    folder: Path, *arguments: str, stdin: bytes | None = None, accepted: Sequence[int] = (0,)
) -> tuple[bytes, str]:
    """As `run_git`; and what git printed on stderr."""
    command = ["git", "--no-optional-locks", "-C", os.fspath(folder), *_NOTHING_RUNS, *arguments]
    try:
        done = subprocess.run(
            command,
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            check=False,
            timeout=GIT_SECONDS,
            env=_environment(os.environ),
        )
    except FileNotFoundError:
        raise GitFailed("git is not installed") from None
    except subprocess.TimeoutExpired:
        raise GitFailed("git did not answer") from None
    said = done.stderr.decode(errors="replace").strip()
    if done.returncode not in accepted:
        raise GitFailed(f"git: {said.splitlines()[0] if said else done.returncode}")
    return done.stdout, said


def no_filters(folder: Path) -> tuple[str, ...]:
    """Options, before the command's name, that switch off every filter and converter which the repository's
    configuration names. Raises `GitFailed`."""
    listed = run_git(
        folder, "config", "--name-only", "-z", "--get-regexp", r"^(filter|diff)\.", accepted=(0, 1)
    )
    options: list[str] = []
    for name in dict.fromkeys(os.fsdecode(listed).split("\0")[:-1]):
        last = name.rpartition(".")[2].lower()
        if "=" in name:
            # Git ends an option's name at the first sign, and would switch off another one.
            raise GitFailed(f"git: {name!r} in the repository's configuration cannot be switched off")
        if last in {"clean", "smudge", "process", "textconv", "command"}:
            options += ("-c", f"{name}=")
        elif last == "required":
            options += ("-c", f"{name}=false")
    return tuple(options)


def _environment(own: Mapping[str, str]) -> dict[str, str]:
    kept = {
        name: value
        for name, value in own.items()
        if not name.startswith("GIT_") or name.startswith(_KEPT_VARIABLES)
    }
    return {
        **kept,
        "LC_ALL": "C",
        # A partial clone would fetch what it lacks, by whatever command its configuration names.
        "GIT_NO_LAZY_FETCH": "1",
        "GIT_ALLOW_PROTOCOL": "",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_PAGER": "cat",
    }


MOST_NAMED = 200
"""Changed files that are named; more are counted only."""
_STATUS = (
    *("status", "--porcelain=v1", "-z", "--no-renames", "--untracked-files=all"),
    *("--ignore-submodules=dirty", "--", "."),
)


def git_state(root: Path) -> GitState | None:
    """The state of the files below ``root``; ``None`` where git is missing, refuses, or knows no such project."""
    try:
        prefix = os.fsdecode(run_git(root, "rev-parse", "--show-prefix")).rstrip("\n")
        commit = run_git(root, "rev-parse", "--verify", "--quiet", "HEAD", accepted=(0, 1)).decode().strip()
        listed = run_git(root, *no_filters(root), *_STATUS)
    except GitFailed:
        return None
    # "XY path": two letters of status and a space. Paths are from the repository's root.
    changed = [os.fsdecode(entry[3:]).removeprefix(prefix) for entry in listed.split(b"\0") if entry]
    return GitState(commit or None, tuple(sorted(changed)[:MOST_NAMED]), len(changed))
