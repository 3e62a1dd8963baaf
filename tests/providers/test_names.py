"""A name that can be given can be used: one rule for volumes, snapshots and instances."""

from __future__ import annotations

from typing import NoReturn

import pytest

from runctl.containers.mounts import parse_mount
from runctl.core.config import Config
from runctl.core.errors import UsageError
from runctl.providers import registry
from runctl.providers.names import check_resource_name, check_run_name, why_not_a_name
from runctl.providers.plugin import IdKind, ProviderPlugin

GOOD = [
    "datasets",
    "z*-7",
    "wh?t",
    "[abc]",
    "back\\slash",
    "två ord",
    "a.b",
    ".hidden",
    "v2=final",
    "vol1",
    "x" * 128,
]
BAD = [
    *(
        "",
        " ",
        " a",
        "a ",
        "a/b",
        "a,b",
        "a:b",
        "/mnt/data",
        "../../etc",
        ".",
        "..",
        "-x",
        "--yes",
        "x" * 129,
    ),
    *("a\nb", "a\x1b[31m", "a\u202eb", "vol-1", "vol-", "VOL-0abc", "snap-0123", "i-0abc", "run-x", "arn:x"),
    "ami-0123456789abcdef0",
]


@pytest.mark.parametrize("name", GOOD)
def test_a_name_that_is_allowed_can_be_mounted_by(name: str) -> None:
    check_resource_name(name, "a volume", "datasets")

    assert parse_mount(f"{name}:/data").source == name


@pytest.mark.parametrize("name", BAD)
def test_a_name_that_could_not_be_used_everywhere_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="cannot be a name") as caught:
        check_resource_name(name, "a volume", "datasets")

    assert caught.value.code == "bad-name"
    assert why_not_a_name(name)


def test_a_run_cannot_be_called_what_means_the_newest() -> None:
    check_run_name("baseline")
    with pytest.raises(UsageError, match="reserved"):
        check_run_name("latest")


def test_ids_of_a_provider_from_another_package_are_not_names_either(monkeypatch: pytest.MonkeyPatch) -> None:
    check_resource_name("pod-7", "a volume", "datasets")
    own = ProviderPlugin("pods", "", no_provider, ids=(IdKind("instance", "pod-", "pod-[0-9]+", "pod-1"),))
    monkeypatch.setattr(registry, "plugins", lambda: (own,))

    with pytest.raises(UsageError, match="looks like an id"):
        check_resource_name("pod-7", "a volume", "datasets")


def no_provider(config: Config) -> NoReturn:
    raise AssertionError("a name is checked without a provider")
