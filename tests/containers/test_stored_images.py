"""Which images may go."""

from __future__ import annotations

import json
import subprocess
from datetime import UTC, datetime, timedelta

from runctl.containers.image_plan import PROJECT_LABEL
from runctl.containers.stored_images import Prunable, StoredImage, Where, engine_images, prunable

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)


def image(number: int, *tags: str) -> StoredImage:
    """The higher its number, the older it is."""
    return StoredImage(
        f"registry.example/runctl/digits:{number}",
        Where.REGISTRY,
        "digits",
        f"sha256:{number}",
        tags or (str(number),),
        10,
        NOW - timedelta(days=number),
    )


def test_the_newest_stay_and_every_cache() -> None:
    images = [image(1), image(2), image(3), image(4, "cache")]

    assert [each.digest for each in prunable(images, 2).going] == ["sha256:3"]


def test_what_is_being_built_pushes_no_other_out_and_stays() -> None:
    unfinished, other, checked = image(1, "unchecked-1"), image(3, "unchecked-2", "abc"), image(2)

    assert prunable([unfinished, other, checked], 1).going == (other,)


def test_an_image_that_a_run_goes_on_in_stays_whatever_its_age() -> None:
    images = [image(1), image(2), image(3)]

    found = prunable(images, 1, {"sha256:1", "sha256:3"})
    assert [each.digest for each in found.going] == ["sha256:2"]
    # The newest stays in any case.
    assert [each.digest for each in found.needed] == ["sha256:3"]
    assert prunable(images, 0, {"sha256:1", "sha256:2", "sha256:3"}) == Prunable((), tuple(images))


def test_an_engines_image_is_known_by_the_digest_that_a_registry_has_of_it() -> None:
    """A run that pulled it has noted the registry's; one whose machine built it, the engine's."""
    described = [
        {
            "Id": f"sha256:id-{name}",
            "Created": f"2026-05-0{day}T12:00:00.123456789Z",
            "RepoTags": [f"registry.example/digits:{name}"],
            "RepoDigests": digests,
            "Config": {"Labels": {PROJECT_LABEL: "digits"}},
        }
        for day, (name, digests) in enumerate(
            [
                ("pulled", ["registry.example/digits@sha256:manifest", "other.example/d@sha256:manifest"]),
                ("built", None),
                ("unused", ["registry.example/digits@sha256:another"]),
                ("newest", []),
            ],
            start=1,
        )
    ]

    def docker(*arguments: str) -> subprocess.CompletedProcess[bytes]:
        ids = "\n".join(str(each["Id"]) for each in described)
        said = ids if arguments[1] == "ls" else json.dumps(described)
        return subprocess.CompletedProcess(arguments, 0, said.encode(), b"")

    images = engine_images(docker, "digits")
    found = prunable(images, 1, {"sha256:manifest", "sha256:id-built"})

    assert {each.digest: each.registry_digests for each in images}["sha256:id-pulled"] == ("sha256:manifest",)
    assert [each.digest for each in found.going] == ["sha256:id-unused"]
    assert {each.digest for each in found.needed} == {"sha256:id-pulled", "sha256:id-built"}
