"""A name that can be given can be used: one rule for volumes, snapshots and instances."""

from __future__ import annotations

import pytest

from runctl.containers.mounts import parse_mount
from runctl.core.errors import UsageError
from runctl.core.names import check_resource_name, why_not_a_name

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
    *("ami-0123456789abcdef0", "sg-12"),
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
