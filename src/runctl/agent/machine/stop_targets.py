"""Which processes of a run get SIGTERM when the run is to end: pure decisions over its tree of processes.

The rule: SIGTERM is for a process that has a handler for it, the uppermost one on each branch, once. That process
looks after what it has started itself, as torchrun and a parent of multiprocessing workers do. A process without a
handler would only die of the signal: what stands above the training (a shell, ``uv run``, an init) or beside it
(``tee``, a display server) stays until the training has written its last byte. Where nothing has a handler there is
nothing to save, and the training itself gets the signal.
"""

from __future__ import annotations

import re
import signal
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import field

from runctl._dataclasses import dataclass

LAST_CALL = 2 / 3
"""Share of the grace after which a process that began later is told as well, if it has a handler."""

SHELLS = frozenset(("sh", "bash", "dash", "zsh", "ksh", "mksh", "ash", "fish", "csh", "tcsh", "busybox"))
INITS = frozenset(("docker-init", "tini", "tini-static", "dumb-init", "catatonit", "init"))
WRAPPERS = frozenset(
    (
        *("sudo", "su", "doas", "runuser", "setpriv", "env", "time", "timeout", "nice", "ionice", "chrt"),
        *(
            "taskset",
            "numactl",
            "stdbuf",
            "nohup",
            "setsid",
            "flock",
            "script",
            "unbuffer",
            "xargs",
            "parallel",
        ),
        *("strace", "ltrace", "perf", "nsys", "ncu", "unshare", "nsenter", "bwrap", "catchsegv", "faketime"),
        *("uv", "uvx", "conda", "mamba", "micromamba", "pixi", "poetry", "pipenv", "hatch", "pdm", "rye"),
        *("make", "just", "npm", "npx", "pnpm", "yarn", "xvfb-run", "dbus-run-session", "proxychains4"),
        # mpirun answers SIGTERM by killing its ranks a second later; told themselves, they have the whole grace.
        *("mpirun", "mpiexec", "orterun", "prterun", "direnv", "dotenv", "aws-vault", "doppler"),
    )
)
"""Programs that run another one and end when it ends."""
COMPANIONS = frozenset(
    (
        *(
            "tee",
            "cat",
            "ts",
            "sed",
            "awk",
            "gawk",
            "mawk",
            "grep",
            "egrep",
            "tr",
            "cut",
            "head",
            "tail",
            "less",
        ),
        *("pv", "sort", "uniq", "gzip", "pigz", "zstd", "xz", "logger", "multilog", "rotatelogs", "sleep"),
        *("Xvfb", "Xorg", "Xvnc", "ssh", "ssh-agent", "gpg-agent", "dbus-daemon", "rclone", "sshfs", "s3fs"),
        *(
            "mount-s3",
            "gcsfuse",
            "goofys",
            "geesefs",
            "redis-server",
            "postgres",
            "mysqld",
            "mongod",
            "memcached",
        ),
        *("nvidia-smi", "dcgmi", "top", "vmstat", "iostat", "tensorboard", "wandb-core"),
    )
)
"""Programs that carry a training's output, or serve it, and are of no use without it."""
TRAINS = frozenset(("python", "pypy", "julia", "R", "Rscript", "java", "ruby", "perl", "node"))
"""What trainings are written in. A program of another kind above one of them is a launcher."""
INTERPRETERS = frozenset(("python", "perl", "ruby", "node", *SHELLS))

_SERVANT = re.compile(
    r"resource_tracker|resource_sharer|multiprocessing\.forkserver|popen_loky|compile_worker"
)
_LOADER = frozenset((signal.SIGBUS, signal.SIGFPE, signal.SIGSEGV, signal.SIGTERM))

Key = tuple[int, str]
"""A process for ever: its number, and when it started."""


@dataclass(frozen=True)
class Member:
    """A process of a run's tree, with what decides whether SIGTERM is of use to it."""

    pid: int
    parent: int
    argv: tuple[str, ...]
    name: str = ""
    """As the kernel has it: at most 15 characters."""
    started: str = ""
    caught: frozenset[int] = frozenset()
    """Signals that it has handlers for."""
    ignored: frozenset[int] = frozenset()

    @property
    def key(self) -> Key:
        """The process itself, whoever gets its number later."""
        return self.pid, self.started

    @property
    def background(self) -> bool:
        """A shell has started it with ``&``: such a job ignores the keyboard's signals (POSIX, asynchronous lists)."""
        return {signal.SIGINT, signal.SIGQUIT} <= self.ignored


@dataclass(frozen=True)
class History:
    """What has been done about a run's processes since it was told to end."""

    known: frozenset[Key] = frozenset()
    """Those that were there at the time."""
    told: Mapping[Key, tuple[str, ...]] = field(default_factory=dict)
    """Those that have got SIGTERM, and what each was running."""
    carrying: frozenset[Key] = frozenset()
    """What stood above one of them."""


def programs(member: Member) -> list[str]:
    """The names that a process goes by: its program's, and its script's where an interpreter runs one."""
    names = [member.name]
    if member.argv:
        first = _base(member.argv[0].lstrip("-"))
        names.append(first)
        if _without_version(first) in INTERPRETERS and len(member.argv) > 1:
            names.append(_script(member.argv[1:]))
    return [name for name in names if name]


def script_of(member: Member) -> tuple[str, ...]:
    """What tells one training from another: the program, and the script that it runs."""
    if not member.argv:
        return (member.name,)
    return _without_version(_base(member.argv[0])), _script(member.argv[1:])


def first_targets(roots: Sequence[int], members: Mapping[int, Member]) -> list[int]:
    """Who gets SIGTERM when the run is told to end. ``roots`` are the script, then what has left its tree."""
    tree = _Tree(members)
    for find in (tree.savers, tree.plain):
        for some in ([roots[:1]] if roots else []) + [roots[1:]]:
            found = [pid for root in some for pid in find(root)]
            if found:
                return found
    return [m.pid for root in roots for m in tree.whole(root) if not tree.is_a(m, INITS)]


def next_targets(
    roots: Sequence[int], members: Mapping[int, Member], history: History, *, late: bool
) -> list[int]:
    """Who gets SIGTERM after the first ones have got theirs.

    A training that a loop starts anew gets it too, with the shell of that loop. When nobody who was told lives any
    more, those who were there from the beginning and had to wait get theirs. What has begun since (the ``cp`` that
    a script ends with) has the rest of the grace; near its end (``late``) it is told if it can save.
    """
    tree = _Tree(members)
    told = {m.pid for m in members.values() if m.key in history.told}
    touched = {
        pid for reached in told for pid in (*(m.pid for m in tree.whole(reached)), *tree.above(reached))
    }
    scripts = set(history.told.values())
    found: list[int] = []
    for member in members.values():
        is_new = member.key not in history.known and member.pid not in touched
        if is_new and script_of(member) in scripts and not tree.carries(member):
            found.append(member.pid)
            shells = [members[pid] for pid in tree.above(member.pid)]
            found += [m.pid for m in shells if tree.is_a(m, SHELLS) and m.pid not in touched]
    if not told:
        waiting = [pid for root in roots for pid in (tree.savers(root) or tree.plain(root))]
        allowed = history.known - history.carrying
        found += [pid for pid in waiting if members[pid].key in allowed]
    if late:
        savers = [pid for root in roots for pid in tree.savers(root)]
        found += [pid for pid in savers if pid not in touched]
    return list(dict.fromkeys(pid for pid in found if members[pid].key not in history.told))


def checkpoint_targets(roots: Sequence[int], members: Mapping[int, Member], number: int) -> list[int]:
    """Who gets the signal that asks for a checkpoint: only processes with a handler for it, as it ends all others."""
    tree = _Tree(members)
    return [pid for root in roots for pid in tree.savers(root, number)]


def after_telling(
    history: History, targets: Iterable[int], members: Mapping[int, Member], *, first: bool = False
) -> History:
    """The history once these have got SIGTERM."""
    tree = _Tree(members)
    targets = list(targets)
    return History(
        known=frozenset(m.key for m in members.values()) if first else history.known,
        told={**history.told, **{members[pid].key: script_of(members[pid]) for pid in targets}},
        carrying=history.carrying | {members[up].key for pid in targets for up in tree.above(pid)},
    )


class _Tree:
    """Questions about a tree of processes."""

    def __init__(self, members: Mapping[int, Member]) -> None:
        self.members = members
        self.children: dict[int, list[Member]] = {}
        for member in sorted(members.values(), key=lambda m: m.pid):
            self.children.setdefault(member.parent, []).append(member)

    def below(self, pid: int) -> list[Member]:
        return self.children.get(pid, [])

    def whole(self, pid: int) -> list[Member]:
        found = [self.members[pid]] if pid in self.members else []
        return found + [m for child in self.below(pid) for m in self.whole(child.pid)]

    def above(self, pid: int) -> list[int]:
        found: list[int] = []
        member = self.members.get(pid)
        while member is not None and member.parent in self.members and member.parent not in found:
            found.append(member.parent)
            member = self.members[member.parent]
        return found

    @staticmethod
    def is_a(member: Member, kinds: AbstractSet[str]) -> bool:
        return any(name in kinds or _without_version(name) in kinds for name in programs(member)[:2])

    def carries(self, member: Member) -> bool:
        """It runs other programs and is not itself a training."""
        return any(name in SHELLS | INITS | WRAPPERS for name in programs(member))

    @staticmethod
    def accompanies(member: Member) -> bool:
        return any(name in COMPANIONS for name in programs(member))

    def _branches(self, member: Member) -> list[Member]:
        """The first child of an init is the script; the others have lost their parents."""
        children = self.below(member.pid)
        return children[:1] if self.is_a(member, INITS) else children

    def savers(self, pid: int, number: int = signal.SIGTERM) -> list[int]:
        """The uppermost ones on each branch that have a handler for this signal."""
        member = self.members.get(pid)
        if member is None:
            return []
        branches = self._branches(member)
        below = [
            saver
            for child in branches
            if self._may_save_for(member, child)
            for saver in self.savers(child.pid, number)
        ]
        if self.carries(member):
            if below or not (number in member.caught and self.is_a(member, SHELLS)):
                return below
            # A trap runs when the command in the foreground has ended, so it is of use only without one.
            blocked = any(not child.background and self.plain(child.pid) for child in branches)
            return [] if blocked else [pid]
        if number in member.caught and not self.accompanies(member):
            return [pid]
        return below

    def _may_save_for(self, parent: Member, child: Member) -> bool:
        """Whether a handler of the child counts: below a launcher it does, below a training it is a worker's."""
        if self.carries(parent) or self.accompanies(parent) or self.carries(child):
            return True
        own, its = script_of(parent)[0], script_of(child)[0]
        if own != its and (own in TRAINS or its not in TRAINS):
            return False
        # A data loader worker of PyTorch has a handler that leaves quietly when its parent says so (and none for
        # SIGILL, which faulthandler would set): it saves nothing.
        loader = child.caught >= _LOADER and signal.SIGILL not in child.caught
        return not loader and _SERVANT.search(" ".join(child.argv[1:])) is None

    def plain(self, pid: int) -> list[int]:
        member = self.members.get(pid)
        if member is None:
            return []
        if self.carries(member) or self.accompanies(member):
            return [target for child in self._branches(member) for target in self.plain(child.pid)]
        return [pid]


def _base(path: str) -> str:
    return path.rsplit("/", 1)[-1]


def _without_version(name: str) -> str:
    return re.sub(r"[\d.]+$", "", name)


def _script(arguments: Sequence[str]) -> str:
    """The script among an interpreter's arguments: the first that is not an option, or the module of ``-m``."""
    after: str | None = None
    for argument in arguments:
        if after in ("-m", "-c", "-W", "-X"):
            if after == "-m":
                return argument
            if after == "-c":
                return "-c " + argument
            after = None
            continue
        if not argument.startswith("-"):
            return _base(argument)
        after = argument
    return ""
