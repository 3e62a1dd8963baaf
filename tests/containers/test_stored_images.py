"""Which images may go."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from runctl.containers.stored_images import StoredImage, Where, prunable

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

    assert [each.digest for each in prunable(images, 2)] == ["sha256:3"]


def test_an_image_that_a_run_goes_on_in_stays_whatever_its_age() -> None:
    images = [image(1), image(2), image(3)]

    assert [each.digest for each in prunable(images, 1, {"sha256:3"})] == ["sha256:2"]
    assert prunable(images, 0, {"sha256:1", "sha256:2", "sha256:3"}) == ()
