"""How many images a repository keeps: as many as are configured, and further back those that unfinished runs go on in.

A registry's own rule counts, and does not know of runs: it is told a number that is large enough.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from runctl.agent.end_reason import RETRIED
from runctl.core.database import Database
from runctl.providers.abilities.image_registry import RegistryImage
from runctl.runs.records.store import RunStore
from runctl.runs.stored.recipe import Recipes

PUSHED_AT_ONCE = 5
"""An image, its caches, and the caches that lose their tags to them: as many come before the next count."""
STEP = 10
"""The number changes seldom, as each change is another call, and a line in a plan."""


def images_to_go_on_in(database: Database) -> frozenset[str]:
    """The tags and digests of the images that a further attempt of this computer's runs would pull: until a run has
    ended for good, or for `runctl.runs.stored.recipe.KEPT_FOR`. Raises `StateError`."""
    unfinished = [
        record for record in RunStore(database).list() if not record.has_ended or record.end_reason in RETRIED
    ]
    # What a run goes on with that was left to its provider is in its store, and no recipe of it here.
    named = [record.image for record in unfinished if record.image is not None]
    digests = [record.image_digest for record in unfinished if record.image_digest is not None]
    return frozenset((*map(_last_part, (*Recipes(database).images(), *named)), *digests))


def count_to_keep(configured: int, images: Sequence[RegistryImage], needed: Collection[str]) -> int:
    """How many of a repository's ``images``, newest first, the rule is to keep. Pure."""
    places = [
        place
        for place, image in enumerate(images, start=1)
        if not {image.digest, *image.tags}.isdisjoint(needed)
    ]
    wanted = max(places, default=0) + PUSHED_AT_ONCE
    return configured if not places or wanted <= configured else -(-wanted // STEP) * STEP


def _last_part(reference: str) -> str:
    """The digest, else the tag."""
    name, at, digest = reference.partition("@")
    return digest if at else name.rpartition("/")[2].partition(":")[2] or "latest"
