"""What machines do not see of this computer."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from runctl.sandbox.machines import own_root

SHOWN = ("etc/hosts", "etc/rc.conf", "etc/rcfile.d/x", "usr/lib/systemd/system/ssh.service")
HIDDEN = {
    "etc/systemd": ("system-generators/mine", "system/agent.service", "system.conf"),
    "usr/local/lib/systemd": ("system/agent.service",),
    "etc/rc.local": (),
    "etc/rc.d": ("rc.local",),
    "etc/rc3.d": ("S01agent",),
    "etc/rcS.d": ("S01agent",),
    "etc/init.d": ("agent",),
}


def test_what_systemd_would_start_for_the_administrator_is_found(tmp_path: Path) -> None:
    for name in (*SHOWN, *(f"{path}/{below}" for path, files in HIDDEN.items() for below in files)):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "etc/rc.local").touch()

    assert sorted(map(str, own_root.administrators_paths(tmp_path))) == sorted(HIDDEN)


@pytest.mark.root
@pytest.mark.linux
def test_a_machine_with_systemd_has_none_of_it(tmp_path: Path) -> None:
    upper = tmp_path / "upper"
    upper.mkdir()

    own_root.hide(upper, sandbox_home=tmp_path, docker=False, systemd=True)

    found = own_root.administrators_paths()
    assert Path("etc/systemd") in found
    for path in found:
        hidden = (upper / path).lstat()
        if stat.S_ISDIR(hidden.st_mode):
            assert os.getxattr(upper / path, own_root.OPAQUE) == b"y"
        else:
            assert (stat.S_ISCHR(hidden.st_mode), hidden.st_rdev) == (True, 0)


@pytest.mark.root
@pytest.mark.linux
def test_what_is_hidden_for_two_reasons_is_hidden(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    upper = tmp_path / "upper"
    upper.mkdir()
    monkeypatch.setattr(own_root, "administrators_paths", lambda: [Path("etc/hostname")])
    monkeypatch.setattr(own_root, "private_paths", lambda: [Path("etc/hostname")])

    own_root.hide(upper, sandbox_home=tmp_path, docker=False, systemd=True)

    assert stat.S_ISCHR((upper / "etc/hostname").lstat().st_mode)
