"""Who gets SIGTERM when a run is told to end, over trees of processes as they are found on machines."""

from __future__ import annotations

import shlex
import signal

import pytest

from runctl.agent.machine.stop_targets import (
    History,
    Member,
    after_telling,
    checkpoint_targets,
    first_targets,
    next_targets,
)

SAVES = frozenset((int(signal.SIGTERM),))
BACKGROUND = frozenset((int(signal.SIGINT), int(signal.SIGQUIT)))
ASKED = frozenset((int(signal.SIGUSR1),))
LOADER = frozenset(map(int, (signal.SIGBUS, signal.SIGFPE, signal.SIGSEGV, signal.SIGTERM)))


def tree(text: str) -> dict[int, Member]:
    """One process a line, indented below its parent: ``PID [save|ask|both|loader] [bg] COMMAND LINE``."""
    members: dict[int, Member] = {}
    above: list[tuple[int, int]] = []
    for line in text.strip("\n").splitlines():
        argv = shlex.split(line.strip(), posix=True)
        indent = len(line) - len(line.lstrip())
        above = [item for item in above if item[0] < indent]
        pid = int(argv.pop(0))
        caught = ignored = frozenset[int]()
        while argv[0] in ("save", "ask", "both", "loader", "bg"):
            flag = argv.pop(0)
            caught = {"save": SAVES, "ask": ASKED, "both": SAVES | ASKED, "loader": LOADER}.get(flag, caught)
            ignored = BACKGROUND if flag == "bg" else ignored
        name = argv[0].rsplit("/", 1)[-1][:15]
        parent = above[-1][1] if above else 1
        members[pid] = Member(pid, parent, tuple(argv), name, str(pid), caught, ignored)
        above.append((indent, pid))
    return members


TREES = {
    "plain python": ("10 python3 -u train.py", [10]),
    "python with a handler": ("10 save python3 -u train.py", [10]),
    "below a shell": ("10 bash train.sh\n 11 save python3 train.py", [11]),
    "below a shell, without a handler": ("10 bash train.sh\n 11 python3 train.py", [11]),
    "nested shells": (
        "10 bash a.sh\n 11 sh -c './b.sh'\n  12 /bin/sh ./b.sh\n   13 save python3 train.py",
        [13],
    ),
    "exec: the shell has become it": ("10 save python3 train.py --lr 1", [10]),
    "tee": ("10 sh -c 'python a.py | tee log'\n 11 save python a.py\n 12 tee log", [11]),
    "tee, without a handler": ("10 sh -c 'python a.py | tee log'\n 11 python a.py\n 12 tee log", [11]),
    "a filter that is no known one": (
        "10 bash go.sh\n 11 save python a.py\n 12 python3 stamp.py\n 13 ./my-filter",
        [11],
    ),
    "process substitution": ("10 bash go.sh\n 11 tee log\n 12 save python a.py", [12]),
    "two trainings": ("10 bash go.sh\n 11 save bg python a.py\n 12 save bg python b.py", [11, 12]),
    "torchrun forwards": (
        (
            "10 save /usr/bin/python3 /usr/bin/torchrun t.py\n 11 save /usr/bin/python3 -u t.py\n"
            " 12 save /usr/bin/python3 -u t.py"
        ),
        [10],
    ),
    "torchrun below a shell": (
        (
            "9 bash t.sh\n 10 save /usr/bin/python3 -m torch.distributed.run t.py\n"
            "  11 save /usr/bin/python3 -u t.py\n  12 save /usr/bin/python3 -u t.py"
        ),
        [10],
    ),
    "accelerate's simple launcher does not": (
        "10 /usr/bin/python3 /usr/bin/accelerate launch t.py\n 11 save /usr/bin/python3 t.py",
        [11],
    ),
    "a launcher of our own": (
        "10 python3.11 launch.py\n 11 sh -c 'python t.py'\n  12 save python t.py",
        [12],
    ),
    "a launcher that nobody knows": ("10 ./launch --fast\n 11 save python t.py", [11]),
    "a training that uses a virtual machine": ("10 python t.py\n 11 save java -jar spark.jar", [10]),
    "a parent with a handler and its workers": (
        "10 save python t.py\n 11 save python t.py\n 12 save python t.py",
        [10],
    ),
    "a parent with a handler and spawned workers": (
        (
            "10 save python t.py\n 11 python -c 'from multiprocessing.resource_tracker import main'\n"
            " 12 save python -c 'from multiprocessing.spawn import spawn_main' --multiprocessing-fork"
        ),
        [10],
    ),
    "workers that save where the parent only waits": (
        (
            "10 python t.py\n 11 python -c 'from multiprocessing.resource_tracker import main'\n"
            " 12 save python -c 'from multiprocessing.spawn import spawn_main' --multiprocessing-fork\n"
            " 13 save python -c 'from multiprocessing.spawn import spawn_main' --multiprocessing-fork"
        ),
        [12, 13],
    ),
    "data loader workers save nothing": (
        "10 python t.py\n 11 loader python t.py\n 12 loader python t.py",
        [10],
    ),
    "a service of the training's": ("10 python t.py\n 11 save /opt/wandb-core --port 1", [10]),
    "mpirun kills after a second": (
        "10 save mpirun -n 2 t\n 11 save python t.py\n 12 save python t.py",
        [11, 12],
    ),
    "uv run": ("10 save uv run t.py\n 11 save /venv/bin/python3 t.py", [11]),
    "tini": ("10 save tini -- python t.py\n 11 save python t.py", [11]),
    "docker-init, a shell and a daemon that lost its parent": (
        (
            "10 save /sbin/docker-init -- ./train.sh\n 11 /bin/bash ./train.sh\n  12 save python t.py\n"
            " 13 save redis-server"
        ),
        [12],
    ),
    "dumb-init": (
        "10 save dumb-init sh -c 'python t.py; true'\n 11 sh -c 'python t.py; true'\n  12 save python t.py",
        [12],
    ),
    "env, nohup, time, timeout": (
        "10 /usr/bin/time nohup env A=1 timeout 9 python t.py\n 11 save timeout 9 python t.py\n  12 save python t.py",
        [12],
    ),
    "conda run": (
        (
            "10 /opt/conda/bin/python /opt/conda/bin/conda run -n x python t.py\n"
            " 11 /bin/bash /tmp/tmp1\n  12 save python t.py"
        ),
        [12],
    ),
    "xvfb-run": (
        "10 /bin/sh /usr/bin/xvfb-run python t.py\n 11 save bg Xvfb :99\n 12 save python t.py",
        [12],
    ),
    "sudo": ("10 save sudo python t.py\n 11 save python t.py", [11]),
    "a trap that forwards": ("10 save bash t.sh\n 11 save bg python t.py", [11]),
    "a trap that does it in another way": ("10 save bash t.sh\n 11 bg python t.py", [10]),
    "a trap that cannot run": ("10 save bash t.sh\n 11 python t.py", [11]),
    "a shell that is the training": ("10 save bash t.sh\n 11 sleep 1", [10]),
    "a shell without a trap that is the training": ("10 bash t.sh\n 11 sleep 1", [10, 11]),
    "a helper program that became the parent": ("10 sleep infinity\n 11 save python t.py", [11]),
    "a script named after a wrapper": ("10 save python time.py", [10]),
    "nobody is there": ("", []),
}


@pytest.mark.parametrize("name", TREES)
def test_sigterm_goes_to_the_training_and_to_nobody_else(name: str) -> None:
    text, expected = TREES[name]
    members = tree(text)
    roots = [pid for pid, item in members.items() if item.parent not in members]
    assert sorted(first_targets(roots, members)) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("10 python t.py", []),
        ("10 save python t.py", []),
        ("10 both python t.py\n 11 both python t.py", [10]),
        ("10 bash t.sh\n 11 tee log\n 12 ask python t.py", [12]),
        # A launcher that forwards SIGTERM to its ranks knows nothing of this signal.
        ("10 save python torchrun t.py\n 11 ask python -u t.py\n 12 ask python -u t.py", [11, 12]),
        ("10 save tini -- python t.py\n 11 both python t.py", [11]),
        # The default of every process that does not handle it is to die of it.
        ("10 bash t.sh\n 11 python a.py\n 12 ask python b.py", [12]),
    ],
)
def test_only_who_has_a_handler_for_it_is_asked_for_a_checkpoint(text: str, expected: list[int]) -> None:
    assert checkpoint_targets([10], tree(text), signal.SIGUSR1) == expected


def test_what_a_script_ends_with_has_the_rest_of_the_grace() -> None:
    before = tree("10 bash t.sh\n 11 save python t.py")
    history = after_telling(History(), [11], before, first=True)
    assert next_targets([10], before, history, late=False) == []
    copying = tree("10 bash t.sh\n 12 cp -r out /ckpt")
    assert next_targets([10], copying, history, late=True) == []
    assert next_targets([10], tree("10 bash t.sh"), history, late=True) == []


def test_a_later_stage_that_can_save_is_told_before_the_grace_is_over() -> None:
    history = after_telling(History(), [11], tree("10 bash t.sh\n 11 save python a.py"), first=True)
    later = tree("10 bash t.sh\n 12 save python b.py")
    assert next_targets([10], later, history, late=False) == []
    assert next_targets([10], later, history, late=True) == [12]
    history = after_telling(history, [12], later)
    assert next_targets([10], later, history, late=True) == []


def test_a_loop_that_starts_the_training_anew_is_ended_with_it() -> None:
    history = after_telling(History(), [11], tree("10 bash t.sh\n 11 save python t.py --lr 1"), first=True)
    second = tree("10 bash t.sh\n 12 python t.py --lr 2")
    assert next_targets([10], second, history, late=False) == [12, 10]


def test_workers_that_a_told_parent_starts_are_its_own_matter() -> None:
    history = after_telling(History(), [10], tree("10 save python t.py"), first=True)
    assert next_targets([10], tree("10 save python t.py\n 11 save python t.py"), history, late=True) == []


def test_who_had_to_wait_is_told_when_the_others_have_ended() -> None:
    before = tree("10 bash t.sh\n 11 save bg python a.py\n 12 bg python monitor.py")
    assert first_targets([10], before) == [11]
    history = after_telling(History(), [11], before, first=True)
    assert next_targets([10], before, history, late=False) == []
    assert next_targets([10], tree("10 bash t.sh\n 12 bg python monitor.py"), history, late=False) == [12]


def test_a_launcher_whose_training_has_saved_may_go_on_to_its_own_end() -> None:
    before = tree("10 python launch.py\n 11 save python t.py")
    history = after_telling(History(), [11], before, first=True)
    assert next_targets([10], tree("10 python launch.py"), history, late=True) == []
