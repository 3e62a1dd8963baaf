"""The sandbox's server as a process."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from moto.core import utils

from runctl.sandbox.layout import Layout
from runctl.sandbox.server import name_services_quickly
from runctl.sandbox.server_process import is_server_of


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere ps is always there")
def test_a_server_is_known_where_ps_is_not_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    layout = Layout(tmp_path)
    program = [sys.executable, "-c", "print(flush=True); input()", "runctl.sandbox.server", str(tmp_path)]
    monkeypatch.setenv("PATH", str(tmp_path))
    with subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as server:
        assert server.stdout is not None
        # A process that has just begun has no command line yet.
        server.stdout.readline()
        assert is_server_of(layout, server.pid)
        assert not is_server_of(layout, os.getppid())
        server.communicate(b"\n")
    assert not is_server_of(layout, server.pid)


def test_moto_finds_a_service_by_the_name_of_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(utils, "service_name_from_moto_package_name", None)

    name_services_quickly()

    found = [
        utils.service_name_from_moto_package_name(name) for name in ("ec2", "ec2instanceconnect", "core")
    ]
    assert found == ["ec2", "ec2-instance-connect", "core"]
