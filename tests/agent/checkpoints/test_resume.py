"""What the script is told to resume from."""

from __future__ import annotations

from pathlib import Path

import pytest

from runctl.agent.checkpoints.resume import arguments, settled
from runctl.agent.disks.run_folders import RunFolders
from runctl.agent.spec import ContainerSpec, MountSpec, RunSpec
from tests.agent.checkpoints.samples import archive, put


def test_an_argument_is_given_only_with_a_checkpoint() -> None:
    template = ("--resume", "{checkpoint}", "--from={checkpoint}")
    assert arguments(template, "/a b/c.pt") == ("--resume", "/a b/c.pt", "--from=/a b/c.pt")
    assert arguments(template, "") == ()


@pytest.mark.parametrize(
    ("container", "mounts", "saved", "expected"),
    [
        (False, [], None, "{old}/a.pt"),
        (False, [], "b.pt", "/seen/b.pt"),
        (True, [], None, "/runctl/resume/a.pt"),
        (True, [("{tmp}", "/data")], None, "/data/old/a.pt"),
        (True, [("{tmp}", "/data"), ("{old}", "/ck")], None, "/ck/a.pt"),
        (True, [], "b.pt", "/seen/b.pt"),
    ],
)
def test_the_script_is_shown_the_checkpoint_where_it_sees_it(
    container: bool, mounts: list[tuple[str, str]], saved: str | None, expected: str, tmp_path: Path
) -> None:
    old, own = tmp_path / "old", tmp_path / "own"
    own.mkdir()
    put(old, "a.pt", archive())
    if saved:
        put(own, saved, archive(), age=5000)
    names = {"tmp": tmp_path, "old": old}
    spec = RunSpec(
        "r",
        "train.py",
        args=("--lr", "1"),
        resume_from=str(old),
        resume_args=("--resume", "{checkpoint}"),
        container=ContainerSpec(image="x") if container else None,
        mounts=tuple(MountSpec(source.format(**names), target) for source, target in mounts),
    )
    where = RunFolders(own, own, "/seen", "/seen", "/data", None)
    found, resumed = settled(spec, where, lambda _: None)
    path = expected.format(**names)
    assert (found.resume_from, found.args) == (path, ("--lr", "1", "--resume", path))
    assert resumed is not None
    assert resumed.path == str(own / saved if saved else old / "a.pt")
    added = found.mounts[len(spec.mounts) :]
    assert [item.target for item in added] == ([path] if path.startswith("/runctl") else [])
