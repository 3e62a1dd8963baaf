"""From a user's folder to a machine: with the agent's own verbs at the other end."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import platformdirs
import pytest

from runctl.agent.trees import verbs as trees
from runctl.core.errors import MachineError, Unreachable
from runctl.project.delivery import EAGER_BYTES
from runctl.project.manifest import FileChanged, write_pack
from runctl.project.root import project_name
from runctl.project.sync import SyncResult, sync
from tests.project.files import write
from tests.project.machine import Machine


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path / "state")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write(tmp_path / "proj", {"train.py": "print(1)", "src/net.py": "net", "src/deep/x.py": "x"})


@pytest.fixture
def bring(tmp_path: Path, root: Path) -> Callable[[Machine], SyncResult]:
    def do(machine: Machine) -> SyncResult:
        machine.calls.clear()
        return sync(root, machine, machine.state.name, cache=tmp_path / "cache")

    return do


Bring = Callable[[Machine], SyncResult]


def test_a_small_project_is_there_after_one_call(root: Path, machine: Machine, bring: Bring) -> None:
    result = bring(machine)

    assert machine.calls == ["apply"]
    assert machine.files(root) == {"train.py": b"print(1)", "src/net.py": b"net", "src/deep/x.py": b"x"}
    assert (result.files, result.files_sent, result.bytes_total) == (3, 3, 12)
    assert result.bytes_sent > 0


def test_an_unchanged_project_is_one_question(machine: Machine, bring: Bring) -> None:
    first = bring(machine)

    second = bring(machine)

    assert machine.calls == ["status"]
    assert second.unchanged
    assert (second.digest, second.files_sent, second.bytes_sent) == (first.digest, 0, 0)


def test_a_changed_file_goes_alone_after_a_look_at_what_is_there(
    root: Path, machine: Machine, bring: Bring
) -> None:
    write(root, {f"many/{n}.py": os.urandom(300) for n in range(200)})
    bring(machine)
    write(root, {"train.py": "print(2)"})
    (root / "src" / "deep" / "x.py").unlink()

    result = bring(machine)

    assert machine.calls == ["status", "apply"]
    assert (result.files_sent, result.removed) == (1, 1)
    assert result.bytes_sent < 1000
    assert machine.files(root)["train.py"] == b"print(2)"
    assert "src/deep/x.py" not in machine.files(root)


def test_a_moved_file_sends_no_content(root: Path, machine: Machine, bring: Bring) -> None:
    bring(machine)
    (root / "src" / "net.py").rename(root / "moved.py")

    result = bring(machine)

    assert result.files_sent == 0
    assert machine.files(root)["moved.py"] == b"net"


def test_much_content_is_sent_only_after_asking_what_is_there(
    root: Path, machine: Machine, bring: Bring
) -> None:
    write(root, {"big.bin": os.urandom(EAGER_BYTES + 1)})

    bring(machine)

    assert machine.calls == ["manifest", "apply"]
    assert len(machine.files(root)["big.bin"]) == EAGER_BYTES + 1


def test_a_pack_larger_than_memory_should_hold_goes_as_a_file(
    root: Path, machine: Machine, bring: Bring
) -> None:
    data = os.urandom(3_000_000)
    write(root, {"big.bin": data})

    bring(machine)

    assert machine.files(root)["big.bin"] == data


def test_a_machine_that_lost_everything_gets_it_again(root: Path, machine: Machine, bring: Bring) -> None:
    bring(machine)
    shutil.rmtree(machine.state)

    result = bring(machine)

    assert result.files_sent == 3
    assert machine.files(root)["train.py"] == b"print(1)"


def test_a_machine_that_lost_the_base_gets_it_all(root: Path, machine: Machine, bring: Bring) -> None:
    bring(machine)
    shutil.rmtree(machine.state)
    write(root, {"train.py": "print(2)"})

    bring(machine)

    assert machine.files(root) == {"train.py": b"print(2)", "src/net.py": b"net", "src/deep/x.py": b"x"}


def test_a_large_change_for_a_machine_that_lost_the_base_is_sent(
    root: Path, machine: Machine, bring: Bring
) -> None:
    bring(machine)
    shutil.rmtree(machine.state)
    write(root, {"big.bin": os.urandom(EAGER_BYTES + 1)})

    bring(machine)

    assert machine.calls == ["status", "manifest", "apply"]
    assert len(machine.files(root)) == 4


@pytest.mark.parametrize("damage", ["gone", "rubbish"])
def test_a_lost_memory_of_the_machine_costs_no_content(
    tmp_path: Path, root: Path, machine: Machine, bring: Bring, damage: str
) -> None:
    write(root, {"big.bin": os.urandom(EAGER_BYTES + 1)})
    bring(machine)
    for path in (tmp_path / "cache" / "sent").iterdir():
        if damage == "gone":
            path.unlink()
        else:
            path.write_text("rubbish")
    write(root, {"train.py": "print(2)"})

    result = bring(machine)

    assert result.files_sent == 1
    assert machine.files(root)["train.py"] == b"print(2)"


def test_two_machines_are_remembered_apart(tmp_path: Path, root: Path, bring: Bring) -> None:
    first, second = Machine(tmp_path / "one"), Machine(tmp_path / "two")
    bring(first)
    bring(second)

    assert bring(first).unchanged
    assert bring(second).unchanged
    assert first.files(root) == second.files(root)


def test_somebody_elses_sync_of_the_same_project_in_between_does_no_harm(
    tmp_path: Path, root: Path, machine: Machine, bring: Bring
) -> None:
    bring(machine)
    write(root, {"train.py": "theirs"})
    sync(root, machine, "state", cache=tmp_path / "other cache")
    write(root, {"train.py": "ours"})

    bring(machine)

    assert machine.files(root)["train.py"] == b"ours"


def test_an_unchanged_project_is_current_again_after_somebody_elses_sync(
    tmp_path: Path, root: Path, machine: Machine, bring: Bring
) -> None:
    bring(machine)
    write(root, {"train.py": "theirs"})
    sync(root, machine, "state", cache=tmp_path / "other cache")
    write(root, {"train.py": "print(1)"})

    result = bring(machine)

    assert result.unchanged
    assert machine.files(root)["train.py"] == b"print(1)"


def test_a_machine_that_cannot_be_asked_is_an_error_and_not_an_empty_one(
    machine: Machine, bring: Bring, monkeypatch: pytest.MonkeyPatch
) -> None:
    bring(machine)

    def gone() -> Mapping[str, Any]:
        raise Unreachable("no answer")

    monkeypatch.setattr(machine, "asks", gone)

    with pytest.raises(Unreachable):
        bring(machine)


def test_a_file_that_changes_during_the_sync_makes_it_begin_again(
    root: Path, machine: Machine, bring: Bring, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, texts = write_pack, iter(["one", "two"])

    def changing(*arguments: Any) -> int:
        write(root, {"train.py": next(texts, "two")})
        return real(*arguments)

    monkeypatch.setattr("runctl.project.delivery.write_pack", changing)

    bring(machine)

    assert machine.files(root)["train.py"] == b"two"


def test_a_file_that_never_rests_is_an_error_and_the_machine_keeps_what_it_had(
    root: Path, machine: Machine, bring: Bring, monkeypatch: pytest.MonkeyPatch
) -> None:
    bring(machine)
    write(root, {"train.py": "print(2)"})
    real, counter = write_pack, iter(range(1000))

    def changing(*arguments: Any) -> int:
        write(root, {"train.py": f"version {next(counter)}"})
        return real(*arguments)

    monkeypatch.setattr("runctl.project.delivery.write_pack", changing)

    with pytest.raises(FileChanged):
        bring(machine)

    assert machine.files(root)["train.py"] == b"print(1)"


def test_a_machine_that_loses_files_as_fast_as_they_come_is_given_up(machine: Machine, bring: Bring) -> None:
    real = trees.apply
    answers: list[Mapping[str, Any]] = []

    class Forgetful(Machine):
        def apply(
            self, request: Mapping[str, Any], pack: bytes | BinaryIO | None = None, size: int = 0
        ) -> Mapping[str, Any]:
            answers.append(real({**request, "pack_follows": False}, None, str(self.state)))
            return answers[-1]

    with pytest.raises(MachineError) as caught:
        bring(Forgetful(machine.state))

    assert caught.value.code == "sync-failed"
    assert 1 < len(answers) < 10


def test_links_and_modes_arrive(root: Path, machine: Machine, bring: Bring) -> None:
    (root / "train.py").chmod(0o755)
    (root / "latest").symlink_to(root / "src")

    bring(machine)

    tree = (machine.state / "projects" / project_name(root) / "current").resolve()
    assert (tree / "train.py").stat().st_mode & 0o111 == 0o111
    assert (tree / "src" / "net.py").stat().st_mode & 0o111 == 0
    assert (tree / "latest").readlink() == Path("src")


def test_what_is_left_out_is_in_the_result(root: Path, machine: Machine, bring: Bring) -> None:
    write(root, {".env": "TOKEN=1"})
    (root / "out").symlink_to("/etc")

    result = bring(machine)

    assert [item.path for item in result.refused] == [".env"]
    assert [entry.path for entry in result.skipped] == ["out"]
    assert ".env" not in machine.files(root)


def test_names_that_are_no_utf8_arrive(root: Path, machine: Machine, bring: Bring) -> None:
    name = os.fsdecode(b"caf\xe9 \n.txt")
    write(root, {name: "x"})

    bring(machine)

    assert machine.files(root)[name] == b"x"


def test_the_users_cache_folder_is_used_by_default(root: Path, machine: Machine) -> None:
    sync(root, machine, "m")

    assert any((platformdirs.user_cache_path("runctl") / "sent").iterdir())
