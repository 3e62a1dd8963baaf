"""One image of a project, from the options to its plan, and the registry that it goes to."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from runctl.cli.context import Cli
from runctl.cli.docker.options import BuildOptions
from runctl.cli.docker.project import DockerProject
from runctl.containers.build_commands import Secret, parse_build_args, parse_secret
from runctl.containers.build_record import BuildRecords
from runctl.containers.building import ImageBuilder
from runctl.containers.client import DockerClient, find_client
from runctl.containers.image_inputs import ImageInputs, repository_name
from runctl.containers.image_plan import ImagePlan
from runctl.containers.reference import is_repository
from runctl.core.errors import UsageError
from runctl.core.places import cache_folder, data_folder
from runctl.project.build_context import BuildContext, read_context
from runctl.project.manifest import HashCache
from runctl.project.root import project_name

if TYPE_CHECKING:
    from runctl.containers.registry_login import Credential
    from runctl.providers.image_registry import ImageRegistry, RepositoryPlan

ECR = "ecr"
_PLATFORM = re.compile(r"[a-z0-9]+/[a-z0-9]+(/[a-z0-9]+)?")
_MUCH = 1 << 30


def image_registry(cli: Cli, name: str = "aws") -> ImageRegistry:
    """The provider's registry. Raises `Unsupported` with its reason."""
    from runctl.providers.interface import require

    return require(cli.provider(name).registry)


@dataclass(frozen=True)
class Target:
    """Where an image is pushed to."""

    repository: str
    """With the host."""
    plan: RepositoryPlan | None = None
    """Where the provider has the repository made; ``None`` for one that the user names."""


@dataclass
class DockerWork:
    """What a command is about to build, push or both."""

    cli: Cli
    project: DockerProject
    options: BuildOptions
    registry: str | None = None
    """``ecr``, ``HOST/PATH``, or ``None``: no registry."""
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
        return parse_build_args(self.options.args, self.cli.config.docker.build_args, os.environ)

    @cached_property
    def platform(self) -> str:
        """For which the image is: the flag's, the machine's, else the engine's own."""
        wanted = self.options.platform
        if wanted is not None:
            if not _PLATFORM.fullmatch(wanted):
                raise UsageError(f"--platform {wanted}: write it as linux/amd64 or linux/arm64")
            return wanted
        kind = self.instance_type or self.cli.config.aws.instance_type
        known = self.cli.provider("aws").platform(kind) if kind else None
        return known or self.client.platform

    @cached_property
    def context(self) -> BuildContext:
        """What would be sent."""
        self.cli.progress.step(f"reading {self.project.root}")
        context = self._read()
        if context.total_bytes > _MUCH:
            self.cli.progress.warn(
                f"the build's context is {context.total_bytes >> 20} MiB: name data in .dockerignore"
            )
        if ".git" in context.entries:
            self.cli.progress.warn(
                "the build's context has .git in it, so that every commit makes another image: name it in .dockerignore"
            )
        return context

    @cached_property
    def target(self) -> Target | None:
        """The repository in the registry, as far as it can be known without making it."""
        if self.registry is None:
            return None
        if self.registry == ECR:
            name = repository_name(self.project.name)
            keep = self.cli.config.docker.keep_images
            plan = image_registry(self.cli).plan_repository(name, keep_images=keep)
            return Target(plan.uri, plan)
        if not is_repository(self.registry):
            raise UsageError(
                f'the registry "{self.registry}" is neither ecr nor HOST/PATH',
                hint='such as [docker] registry = "ghcr.io/ada/digits"',
                code="bad-registry",
            )
        return Target(self.registry)

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
            self.options.target or self.cli.config.docker.target,
            self.platform,
        )

    def now(self) -> str:
        """The digest of what is there at this moment."""
        return self.inputs(self._read()).digest

    def builder(self, client: DockerClient | None = None) -> ImageBuilder:
        """By this computer's docker, or by the same logged in."""
        return ImageBuilder(client or self.client, self.records, self.cli.progress)

    @contextmanager
    def logged_in(self) -> Iterator[ImageBuilder]:
        """A builder that may push; at ECR by a token of its own, elsewhere by the user's own login."""
        from runctl.containers.registry_login import logged_in

        with logged_in(self.client, self.credential()) as client:
            yield self.builder(client)

    def credential(self) -> Credential | None:
        """A token where the provider gives one."""
        from runctl.containers.registry_login import Credential

        if self.registry != ECR:
            return None
        login = image_registry(self.cli).login()
        return Credential(login.host, login.username, login.password)

    def ensure_repository(self) -> None:
        """What the plan says will be created is there."""
        if self.target is not None and self.target.plan is not None and self.target.plan.will_create:
            image_registry(self.cli).ensure_repository(
                self.target.plan, project=self.project.name, progress=self.cli.progress
            )

    def _read(self) -> BuildContext:
        file = cache_folder() / "hashes" / f"{project_name(self.project.root)}-context.json"
        hashes = HashCache.load(file)
        try:
            return read_context(self.project.root, self.project.dockerfile.path, hashes)
        finally:
            hashes.save()
