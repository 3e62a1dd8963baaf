"""What arrives takes its place as a whole."""

from __future__ import annotations

from pathlib import Path

import pytest

from runctl.checkpoints.arriving import (
    arriving_folder,
    check_outside,
    check_target,
    keep_only,
    put_in_place,
    target_of,
)
from runctl.core.errors import Conflict, UsageError


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_only_what_belongs_to_the_checkpoint_takes_the_place(tmp_path: Path) -> None:
    target = tmp_path / "best"
    arriving = arriving_folder(target)
    for name in ("step-2/model.pt", "step-1/deep/model.pt", "step-1/deep/.runctl-0.part"):
        write(arriving / name, name)
    write(target / "old.pt", "old")

    keep_only(arriving, {"step-2/model.pt"})
    put_in_place(arriving, target)

    assert [str(path.relative_to(tmp_path)) for path in sorted(tmp_path.rglob("*"))] == [
        *("best", "best/step-2", "best/step-2/model.pt")
    ]


def test_a_folder_with_something_in_it_is_replaced_on_request_only(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    write(tmp_path / "full/x", "x")
    write(tmp_path / "file", "x")

    for name in ("new", "empty"):
        check_target(tmp_path / name, replace=False)
    check_target(tmp_path / "full", replace=True)

    with pytest.raises(Conflict, match="not empty"):
        check_target(tmp_path / "full", replace=False)
    with pytest.raises(Conflict, match="not a folder"):
        check_target(tmp_path / "file", replace=True)


def test_what_is_not_from_a_pull_is_never_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project, home = tmp_path / "project", tmp_path / "home"
    write(project / "src/train.py", "")
    write(home / "thesis.tex", "")
    write(tmp_path / "clone/.git/HEAD", "")
    write(project / "saved/model.pt", "")
    monkeypatch.chdir(project / "src")
    monkeypatch.setenv("HOME", str(home))

    for target, why in [
        (".", "the folder that you are in"),
        ("..", "the folder that you are in is in it"),
        ("~", "your home"),
        (str(tmp_path), "is in it"),
        ("../../clone", "git repository"),
    ]:
        with pytest.raises(Conflict, match=why):
            check_target(target_of(Path(target)), replace=True)
    for target in ("../saved", "../../project"):
        with pytest.raises(Conflict, match="the checkpoint comes from"):
            check_outside(target_of(Path(target)), project / "saved")
    check_outside(target_of(Path("../saved/best")), project / "saved")
    assert target_of(Path("../../new")) == tmp_path / "new"


@pytest.mark.parametrize("address", ["s3://mine/best", "s3:/mine/best", "gpu-box:/mnt/best"])
def test_an_address_is_not_a_folder_to_make_here(address: str) -> None:
    with pytest.raises(UsageError, match="not a folder of this computer"):
        target_of(Path(address))
