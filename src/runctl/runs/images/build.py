"""One image of a project: from its options to what is built and pushed, and the registry that it goes to."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from runctl._dataclasses import dataclass
from runctl.containers.build_commands import Secret, parse_build_args, parse_secret
from runctl.containers.build_record import BuildRecords
from runctl.containers.building import Built, ImageBuilder, Pushed
from runctl.containers.client import DockerClient, find_client
from runctl.containers.image_inputs import ImageInputs, repository_name
from runctl.containers.image_plan import BuildOptions, ImagePlan
from runctl.containers.reference import is_repository
from runctl.core.database import StateError
from runctl.core.errors import ProjectError, UsageError
from runctl.core.files import cache_folder, data_folder
from runctl.project.docker.build_context import BuildContext, read_context
from runctl.project.docker.dockerfile import (
    DockerfileChoice,
    DockerfileRequest,
    choose_dockerfile,
    no_dockerfile,
)
from runctl.project.label import project_folder, project_label
from runctl.project.manifest import HashCache
from runctl.project.root import project_name
from runctl.providers.registry import DEFAULT, registry_owner, usual_registry
from runctl.runs.images.kept_in_registry import count_to_keep, images_to_go_on_in

if TYPE_CHECKING:
    from runctl.containers.registry_login import Credential
    from runctl.machines.session import Session
    from runctl.providers.abilities.image_registry import ImageRegistry, RepositoryPlan

_PLATFORM = re.compile(r"[a-z0-9]+/[a-z0-9]+(/[a-z0-9]+)?")
_RUN = re.compile("run-[a-z0-9]{10}")
_LARGE_CONTEXT_BYTES = 1 << 30


@dataclass(frozen=True)
class ImageProject:
    """Where the context is, what it is called, and what is built."""

    root: Path
    name: str
    dockerfile: DockerfileChoice


def image_project(session: Session, cwd: Path, request: DockerfileRequest) -> ImageProject:
    """The project around ``cwd``, with its Dockerfile.

    Raises `ProjectError` outside a project, `NotFound` when it has no Dockerfile, and what `choose_dockerfile` raises.
    """
    folder = project_folder(cwd)
    if folder is None:
        raise ProjectError(
            f"{cwd} is not in a project: there is no .git and no project file here or above",
            hint="run it in the project's folder, or make it one: git init",
            code="no-project",
        )
    root = folder.resolve()
    choice = choose_dockerfile(root, cwd, request)
    if choice is None:
        raise no_dockerfile(root)
    return ImageProject(root, project_label(None, session.config, cwd) or root.name, choice)


def image_registry(session: Session, name: str) -> ImageRegistry:
    """The provider's registry. Raises `Unsupported` with its reason."""
    from runctl.providers.interface import require

    return require(session.provider(name).registry)


@dataclass(frozen=True)
class Target:
    """Where an image is pushed to."""

    repository: str
    """With the host."""
    plan: RepositoryPlan | None = None
    """Where the provider has the repository created; ``None`` for one that the user names."""

    @property
    def is_new(self) -> bool:
        """The repository is created first, so that nothing can be in it."""
        return self.plan is not None and not self.plan.exists


@dataclass
class ImageBuild:
    """What is about to be built, pushed or both."""

    session: Session
    project: ImageProject
    options: BuildOptions
    registry: str | None = None
    """A provider's own by its name, ``HOST/PATH``, or ``None``: no registry."""
    provider: str = DEFAULT
    """Whose machine the image is for."""
    instance_type: str | None = None
    """Of the machine that the image is for; by default the configured one."""
    without_engine: str = ""
    """What the user can do where no engine answers here."""

    @cached_property
    def client(self) -> DockerClient:
        """This computer's docker. Raises `Unsupported`, `MachineError`."""
        return find_client(self.without_engine)

    @cached_property
    def records(self) -> BuildRecords:
        """Of earlier builds."""
        return BuildRecords(data_folder() / "builds")

    @cached_property
    def secrets(self) -> tuple[Secret, ...]:
        """Checked: each is there."""
        found = tuple(parse_secret(text, Path.cwd(), os.environ) for text in self.options.secrets)
        if len({secret.id for secret in found}) != len(found):
            raise UsageError(
                "--secret: two have the same id", hint="give each an id of its own", code="bad-secret"
            )
        return found

    @cached_property
    def args(self) -> dict[str, str]:
        """The build arguments."""
        return parse_build_args(self.options.args, self.session.config.docker.build_args, os.environ)

    @cached_property
    def platform(self) -> str:
        """For which the image is: the flag's, the machine's, else the engine's own."""
        wanted = self.options.platform
        if wanted is not None:
            if not _PLATFORM.fullmatch(wanted):
                raise UsageError(f"--platform {wanted}: write it as linux/amd64 or linux/arm64")
            return wanted
        kind = self.instance_type or self.session.defaults(self.provider).instance_type
        known = self.session.provider(self.provider).platform(kind) if kind else None
        return known or self.client.platform

    @cached_property
    def context(self) -> BuildContext:
        """What would be sent."""
        self.session.progress.step(f"reading {self.project.root}")
        context = self._read()
        if context.total_bytes > _LARGE_CONTEXT_BYTES:
            self.session.progress.warn(
                f"the build's context is {context.total_bytes >> 20} MiB: name data in .dockerignore"
            )
        if ".git" in context.entries:
            self.session.progress.warn(
                "the build's context has .git in it, so that every commit makes another image: name it in .dockerignore"
            )
        for folder in folders_of_runs(context.entries):
            self.session.progress.warn(
                f"the build's context has {folder} in it, the results of runs, so that every run makes another image:"
                " name it in .dockerignore"
            )
        return context

    @property
    def owner(self) -> str | None:
        """The provider whose own registry it is."""
        return registry_owner(self.registry)

    @cached_property
    def target(self) -> Target | None:
        """The repository in the registry, as far as it can be known without making it."""
        if self.registry is None:
            return None
        if self.owner is not None:
            plan = self._plan_repository(image_registry(self.session, self.owner))
            return Target(plan.uri, plan)
        if not is_repository(self.registry):
            raise UsageError(
                f'the registry "{self.registry}" is neither {usual_registry()} nor HOST/PATH',
                hint='such as [docker] registry = "ghcr.io/ada/digits"',
                code="bad-registry",
            )
        return Target(self.registry)

    def _plan_repository(self, registry: ImageRegistry) -> RepositoryPlan:
        name, configured = repository_name(self.project.name), self.session.config.docker.keep_images
        plan = registry.plan_repository(name, keep_images=configured)
        if not plan.exists:
            return plan
        try:
            needed = images_to_go_on_in(self.session.database)
        except StateError as error:
            self.session.progress.warn(
                f"which images unfinished runs need is not known ({error.message}): {name} keeps its newest"
                f" {configured}"
            )
            return plan
        keep = count_to_keep(configured, registry.images(name), needed) if needed else configured
        return plan if keep == configured else registry.plan_repository(name, keep_images=keep)

    @cached_property
    def plan(self) -> ImagePlan:
        """The image. Raises `UsageError` for a stage that is not there."""
        plan = ImagePlan(
            self.project.root,
            self.project.name,
            self.inputs(self.context),
            self.target.repository if self.target else None,
        )
        plan.check()
        return plan

    def inputs(self, context: BuildContext) -> ImageInputs:
        """Everything that decides the image."""
        return ImageInputs(
            context.dockerfile,
            context.dockerfile_text,
            context.entries,
            self.args,
            self.options.target or self.session.config.docker.target,
            self.platform,
        )

    def now(self) -> str:
        """The digest of what is there at this moment."""
        return self.inputs(self._read()).digest

    def builder(self, client: DockerClient | None = None) -> ImageBuilder:
        """By this computer's docker, or by the same logged in."""
        return ImageBuilder(client or self.client, self.records, self.session.progress)

    @contextmanager
    def logged_in(self) -> Iterator[ImageBuilder]:
        """A builder that may push; at a provider's own registry by a token, elsewhere by the user's own login."""
        from runctl.containers.registry_login import logged_in

        with logged_in(self.client, self.credential()) as client:
            yield self.builder(client)

    def credential(self) -> Credential | None:
        """A token where the provider gives one."""
        from runctl.containers.registry_login import Credential

        if self.owner is None:
            return None
        login = image_registry(self.session, self.owner).login()
        return Credential(login.host, login.username, login.password)

    def ensure_repository(self) -> None:
        """What the plan says will be created is there."""
        if self.owner is None or self.target is None or self.target.plan is None:
            return
        if self.target.plan.will_create:
            image_registry(self.session, self.owner).ensure_repository(
                self.target.plan, project=self.project.name, progress=self.session.progress
            )

    def _read(self) -> BuildContext:
        file = cache_folder() / "hashes" / f"{project_name(self.project.root)}-context.json"
        hashes = HashCache.load(file)
        try:
            return read_context(self.project.root, self.project.dockerfile.path, hashes)
        finally:
            hashes.save()

    def _read_while_docker_answers(self) -> None:
        with ThreadPoolExecutor(1) as pool:
            client = pool.submit(lambda: self.client)
            _ = self.context
            client.result()

    def find(self, *, pushes: bool) -> str | None:
        """Where the image is already: ``registry`` (asked only with ``pushes``), ``engine``, or ``None``.

        ``None``, too, where it is to be built all the same.
        """
        if self.options.rebuild:
            return None
        if pushes and self.target is not None:
            with self.logged_in() as builder:
                if not self.target.is_new and builder.in_registry(str(self.plan.remote)):
                    return "registry"
        return "engine" if self.client.has_image(self.plan.local) else None

    def digest(self) -> str | None:
        """The registry's of the image, which is there; ``None`` where nobody here knows it."""
        if self.target is None:
            return None
        if self.owner is not None and self.target.plan is not None:
            stored = image_registry(self.session, self.owner).images(self.target.plan.name)
            return next((each.digest for each in stored if self.plan.tag in each.tags), None)
        inspect = ("image", "inspect", "--format", '{{join .RepoDigests "\\n"}}', str(self.plan.remote))
        known = self.client.run(*inspect).stdout.decode(errors="replace").split()
        found = (each.partition("@") for each in known)
        return next((digest for name, _, digest in found if name == self.target.repository), None)

    def build(self) -> Built:
        """The engine has the image."""
        if self.find(pushes=False):
            return self.builder().build(self.plan, self.secrets)
        with self.logged_in() as builder:
            return builder.build(self.plan, self.secrets, rebuild=self.options.rebuild, now=self.now)

    def push(self) -> Pushed:
        """The registry has what the engine has."""
        self.ensure_repository()
        with self.logged_in() as builder:
            return builder.push(self.plan, self.secrets)

    def build_and_push(self, on_build: Callable[[], None] = lambda: None) -> tuple[Built, Pushed]:
        """The registry has the image; what is there already is neither built nor pushed.

        ``on_build`` is called before the first step of a build.
        """
        assert self.target is not None  # noqa: S101 - there is a registry
        self._read_while_docker_answers()
        reference, rebuild = str(self.plan.remote), self.options.rebuild
        with self.logged_in() as builder:
            if not rebuild and not self.target.is_new and builder.in_registry(reference):
                self.session.progress.note(
                    f"{reference} is in the registry already: nothing to build, nothing to push"
                )
                self.records.remember(self.plan.root, self.plan.inputs)
                self.ensure_repository()
                there = Built(reference, self.plan.tag, False, "registry", 0.0)
                return there, Pushed(reference, False, None, 0, 0, 0.0)
            on_build()
            self.ensure_repository()
            built = builder.build(self.plan, self.secrets, rebuild=rebuild, push=True, now=self.now)
            if built.where == "registry":
                return built, Pushed(reference, True, None, 0, 0, 0.0)
            return built, builder.push(self.plan, self.secrets, asked=True, built=built)


def folders_of_runs(entries: Iterable[str]) -> list[str]:
    """The folders of a context that have folders of runs in them, as results are brought to them. Pure."""
    found = (path.rpartition("/") for path in entries)
    return sorted({above for above, slash, name in found if slash and _RUN.fullmatch(name)})
