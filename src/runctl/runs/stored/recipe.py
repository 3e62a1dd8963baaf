"""What a further attempt of a run needs, kept on this computer from the run's start to its end for good.

The spec has the values of the variables that the user set, secrets among them: the state file is the user's alone, and
the recipe goes when the run has ended in a way that nobody recovers.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import msgspec

from runctl._dataclasses import dataclass
from runctl.agent.checkpoint_spec import StoreSpec
from runctl.agent.spec import RunSpec
from runctl.core.clock import Clock, SystemClock
from runctl.core.database import Database
from runctl.core.errors import NotFound
from runctl.project.kept import KeptProjects
from runctl.providers.instance_plans import InstanceRequest
from runctl.runs.mounts.plan import MountPlan
from runctl.runs.recovery import DEFAULT_RULES, RecoveryRules

KEPT_FOR = timedelta(days=30)
"""A run that nobody has recovered for so long is not going to be."""


@dataclass(frozen=True)
class KeptVolume:
    """A volume that the run's machine had mounted for it."""

    volume_id: str
    mount_point: str
    """On the machine."""
    read_only: bool
    moved_from: tuple[str, ...] = ()
    """The volumes that the run had before it, from zone to zone: the user's own, which is never deleted, then copies
    that the run itself has made and does not need any more."""
    blank: bool = False
    """It was created empty, and the first attempt makes its file system."""
    is_copy: bool = False
    """The run itself has made it, in the place of the user's own."""

    def replaced_by(self, volume_id: str, *, is_copy: bool) -> KeptVolume:
        """The volume that takes its place. Only what the run itself has made is left to be deleted. Pure."""
        own = self.moved_from[0] if self.moved_from else self.volume_id
        left = (*self.moved_from[1:], *((self.volume_id,) if self.is_copy else ()))
        copies = (each for each in dict.fromkeys(left) if each not in {own, volume_id})
        return replace(
            self, volume_id=volume_id, moved_from=(own, *copies), is_copy=is_copy and volume_id != own
        )


@dataclass(frozen=True)
class Recipe:
    """A run as it was settled when its last attempt was started."""

    spec: RunSpec
    """With the tree's digest."""
    provider: str
    region: str | None
    transport: str | None = None
    """As it was chosen; ``None``: by configuration."""
    volumes: tuple[KeptVolume, ...] = ()
    """Outer mount points first."""
    request: InstanceRequest | None = None
    """What the machine was rented by, or would be; ``None``: the provider cannot say."""
    rules: RecoveryRules = DEFAULT_RULES
    registry: str = ""
    """The host of the provider's registry that a group's machine pulls the image from by its own role."""
    auto_resume: bool = False
    """Whoever watches runs recovers it without being told its id."""

    nodes: tuple[int, int] | None = None
    """How many machines it has at least and at most, each rented by the request; ``None``: one."""

    @property
    def run_id(self) -> str:
        """The run's."""
        return self.spec.run_id

    def rented_by(self, request: InstanceRequest) -> Recipe:
        """The recipe of a run whose machine was rented for it. Volumes are attached by the next attempt itself."""
        return replace(self, request=replace(request, volumes=(), token=None))


class Recipes:
    """The recipes in the local state file."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def put(self, recipe: Recipe, clock: Clock | None = None) -> None:
        """The recipe is what the file holds for its run. Raises `StateError`."""
        now = (clock or SystemClock()).now()
        with self._database.transaction() as connection:
            connection.execute(
                "INSERT OR REPLACE INTO recipes (run_id, kept_at, tree, recipe) VALUES (?, ?, ?, ?)",
                (recipe.run_id, now.isoformat(), recipe.spec.tree, msgspec.json.encode(recipe).decode()),
            )

    def find(self, run_id: str) -> Recipe | None:
        """That of a run, or ``None``."""
        with self._database.reading() as connection:
            row = connection.execute("SELECT recipe FROM recipes WHERE run_id = ?", (run_id,)).fetchone()
        return msgspec.json.decode(row["recipe"], type=Recipe) if row is not None else None

    def stores(self) -> dict[str, StoreSpec]:
        """Where each run publishes its checkpoints, and which of them stay."""
        with self._database.reading() as connection:
            rows = connection.execute(
                "SELECT run_id, json_extract(recipe, '$.spec.store') AS store FROM recipes"
            ).fetchall()
        return {
            row["run_id"]: msgspec.json.decode(row["store"], type=StoreSpec)
            for row in rows
            if row["store"] is not None
        }

    def images(self) -> set[str]:
        """The images that the runs are in, or that their machines publish, as they were named."""
        with self._database.reading() as connection:
            rows = connection.execute(
                "SELECT json_extract(recipe, '$.spec.container.image') AS image FROM recipes UNION"
                " SELECT json_extract(recipe, '$.spec.container.build.published') AS image FROM recipes"
            ).fetchall()
        return {row["image"] for row in rows if row["image"]}

    def get(self, run_id: str) -> Recipe:
        """That of a run. Raises `NotFound`."""
        found = self.find(run_id)
        if found is None:
            raise NotFound(
                f"this computer does not have what another attempt of {run_id} needs",
                hint="only runs that were started here can be recovered here, until they have ended for good",
                code="recipe-not-found",
            )
        return found

    def all(self) -> list[Recipe]:
        """Every one, the oldest first."""
        with self._database.reading() as connection:
            rows = connection.execute("SELECT recipe FROM recipes ORDER BY kept_at, run_id").fetchall()
        return [msgspec.json.decode(row["recipe"], type=Recipe) for row in rows]

    def by_volume(self) -> dict[str, str]:
        """The runs that go on with a volume, by its id: those that have not ended for good."""
        return {kept.volume_id: recipe.run_id for recipe in self.all() for kept in recipe.volumes}

    def prune(self, projects: KeptProjects, clock: Clock | None = None) -> None:
        """Recipes that are too old are gone, and the projects that no recipe names."""
        before = (clock or SystemClock()).now() - KEPT_FOR
        with self._database.transaction() as connection:
            connection.execute("DELETE FROM recipes WHERE kept_at < ?", (before.isoformat(),))
        projects.prune(self._trees)

    def _trees(self) -> set[str]:
        with self._database.reading() as connection:
            rows = connection.execute("SELECT DISTINCT tree FROM recipes").fetchall()
        return {row["tree"] for row in rows if row["tree"]}


def kept_volumes(mounts: MountPlan) -> tuple[KeptVolume, ...]:
    """The volumes of a run's mounts. Pure."""
    found: dict[str, KeptVolume] = {}
    for mount in mounts.mounts:
        identifier = mount.spec.volume_id
        if identifier is None or mount.mount_point is None:
            continue
        before = found.get(identifier)
        read_only = mount.spec.read_only and (before is None or before.read_only)
        found[identifier] = KeptVolume(identifier, mount.mount_point, read_only)
    return tuple(sorted(found.values(), key=lambda volume: volume.mount_point.count("/")))
