"""The file of host keys."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from runctl.transport.known_hosts import KnownHosts, is_host_key

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIExample"


@pytest.fixture
def hosts(tmp_path: Path) -> KnownHosts:
    return KnownHosts(tmp_path / "state" / "known_hosts")


def test_a_machine_is_unknown_at_first(hosts: KnownHosts) -> None:
    assert not hosts.knows("i-1")


def test_what_was_learned_is_known_under_the_alias_alone(hosts: KnownHosts) -> None:
    with hosts.locked():
        assert hosts.learn("i-1", [KEY + " root@ip-10-0-0-1", "-----BEGIN SSH HOST KEY KEYS-----"])
    assert hosts.path.read_text() == f"i-1 {KEY}\n"
    assert hosts.knows("i-1")
    assert not hosts.knows("i-11")


def test_a_known_machine_keeps_its_key(hosts: KnownHosts) -> None:
    with hosts.locked():
        hosts.learn("i-1", [KEY])
        hosts.learn("i-1", ["ssh-ed25519 AAAAanother"])
    assert "another" not in hosts.path.read_text()


def test_nothing_is_learned_from_what_is_no_key(hosts: KnownHosts) -> None:
    with hosts.locked():
        assert not hosts.learn("i-1", ["", "ssh-ed25519", "ssh-rsa not-base64", "hello world"])
    assert not hosts.knows("i-1")


def test_forgetting_one_leaves_the_others(hosts: KnownHosts) -> None:
    with hosts.locked():
        hosts.learn("i-1", [KEY])
        hosts.learn("i-2", [KEY])
    assert hosts.forget("i-1")
    assert not hosts.forget("i-1")
    assert hosts.path.read_text() == f"i-2 {KEY}\n"


def test_many_at_once_lose_nothing(hosts: KnownHosts) -> None:
    def learn(n: int) -> None:
        with hosts.locked():
            hosts.learn(f"i-{n}", [KEY])

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(learn, range(40)))
    assert all(hosts.knows(f"i-{n}") for n in range(40))


@pytest.mark.parametrize("line", [KEY, "ecdsa-sha2-nistp256 AAAAE2Vj c", "ssh-rsa AAAAB3Nz"])
def test_a_public_key_looks_like_one(line: str) -> None:
    assert is_host_key(line)
