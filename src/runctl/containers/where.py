"""Where a run's image is built: here, to be pulled from a registry, or on the machine from what is sent. Pure."""

from __future__ import annotations

from runctl._dataclasses import dataclass
from runctl.core.errors import Unsupported, UsageError

LOCAL, INSTANCE = "local", "instance"


@dataclass(frozen=True)
class BuildFacts:
    """What decides it."""

    asked: str | None
    """``--build-on``, else ``[docker] build_on``."""
    registry: str | None
    """The configured one."""
    this_computer: bool
    """The run is on this computer: there is one engine only."""
    dev_mode: bool
    engine: str | None
    """The platform of the engine that answers here; ``None`` where none does."""
    no_engine: str
    """Why none does, in words."""
    platform: str | None
    """For which the image is to be; ``None``: not known."""


@dataclass(frozen=True)
class BuildLocation:
    """The answer."""

    where: str
    """`LOCAL` or `INSTANCE`."""
    reason: str


@dataclass(frozen=True)
class ImagePlanOfRun:
    """A run's image as its plan shows it."""

    where: str
    reason: str
    reference: str
    there: str | None = None
    """``engine``, ``registry`` or ``machine``: it is there already, and is not built."""
    platform: str | None = None
    target: str | None = None
    will_create: tuple[str, ...] = ()
    """In words."""
    unpinned: tuple[str, ...] = ()
    """Base images that no digest pins."""
    published: str | None = None
    """Where the machine that builds it pushes it, before the run starts."""


def choose_build_location(facts: BuildFacts) -> BuildLocation:
    """Here only if the image has a way to the machine that somebody chose: a registry, or ``--build-on local``.

    Raises `UsageError` for ``local`` on this computer's own runs, `Unsupported` when it is asked for without engine.
    """
    if facts.this_computer:
        if facts.asked == LOCAL:
            return BuildLocation(INSTANCE, "the run is on this computer, and so is its engine")
        return BuildLocation(INSTANCE, "the run is on this computer")
    if facts.asked is not None:
        if facts.asked not in {LOCAL, INSTANCE}:
            raise UsageError(f"--build-on {facts.asked}: it can be local or instance")
        if facts.asked == LOCAL and facts.engine is None:
            raise Unsupported(
                f"the image cannot be built here: {facts.no_engine}",
                hint="start Docker, or leave it to the machine: --build-on instance",
                code="no-engine",
            )
        return BuildLocation(facts.asked, "asked for")
    if facts.registry is None:
        return BuildLocation(
            INSTANCE, "no registry is configured that an image built here could be pulled from"
        )
    if facts.dev_mode:
        return BuildLocation(INSTANCE, "dev-mode goes on with the machine's last image")
    if facts.engine is None:
        return BuildLocation(INSTANCE, f"not here: {facts.no_engine}")
    if facts.platform is not None and facts.platform != facts.engine:
        return BuildLocation(
            INSTANCE, f"the engine here is for {facts.engine}, the machine is {facts.platform}"
        )
    return BuildLocation(LOCAL, f"a Docker engine answers here, and the registry is {facts.registry}")
