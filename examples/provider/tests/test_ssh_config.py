"""From a configuration to the way to a machine."""

from __future__ import annotations

import getpass
from pathlib import Path

import pytest

from runctl.core.config import Config
from runctl.core.errors import ConfigError
from runctl_hosts.settings import HostConfig, HostsConfig, settings_of
from runctl_hosts.ssh_config import Way, way_to


def alias(tmp_path: Path, text: str) -> Way:
    """The way to ``lab`` where ssh's configuration says this."""
    file = tmp_path / "ssh config"
    file.write_text(text)
    return way_to("lab", HostsConfig(aliases=("lab",), ssh_config=str(file)))


def test_what_is_written_is_taken() -> None:
    written = HostsConfig({"a": HostConfig("10.0.0.5", "ada", 2222, "/keys/lab")})
    assert way_to("a", written) == Way("10.0.0.5", "ada", 2222, Path("/keys/lab"))


def test_without_a_user_it_is_whoever_runs_this() -> None:
    assert way_to("a", HostsConfig({"a": HostConfig("10.0.0.5")})).user == getpass.getuser()


def test_an_alias_is_what_ssh_says(tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.touch()
    text = f"Host lab\n HostName 10.0.0.7\n User grace\n Port 2200\n IdentityFile {key}\n"
    assert alias(tmp_path, text) == Way("10.0.0.7", "grace", 2200, key)


def test_ssh_s_own_keys_need_no_naming(tmp_path: Path) -> None:
    assert alias(tmp_path, "Host lab\n HostName 10.0.0.7\n").identity is None


@pytest.mark.parametrize(
    ("option", "end"),
    [
        ("ProxyJump gate", "-o BatchMode=yes -W '[%h]:%p' -- gate"),
        ("ProxyJump ada@gate:2222", "-o BatchMode=yes -W '[%h]:%p' -- ssh://ada@gate:2222"),
        ("ProxyJump outer,inner", "-o BatchMode=yes -J outer -W '[%h]:%p' -- inner"),
        ("ProxyCommand nc -x proxy %h %p", "nc -x proxy %h %p"),
    ],
)
def test_a_machine_behind_another_is_reached_through_it(tmp_path: Path, option: str, end: str) -> None:
    way = alias(tmp_path, f"Host lab\n HostName 10.0.0.7\n {option}\n")
    assert (way.proxy_command or "").endswith(end)


def test_what_ssh_does_not_understand_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="lab"):
        alias(tmp_path, "Host lab\n NoSuchOption yes\n")


@pytest.mark.parametrize(
    "settings",
    [
        HostsConfig({"run-1": HostConfig("a")}),
        HostsConfig({"two words": HostConfig("a")}),
        HostsConfig(aliases=("-oProxyCommand=evil",)),
        HostsConfig({"lab": HostConfig("a")}, aliases=("lab",)),
    ],
)
def test_a_name_that_cannot_be_an_instance_is_refused(settings: HostsConfig) -> None:
    with pytest.raises(ConfigError):
        settings_of(Config(provided=(settings,)))
