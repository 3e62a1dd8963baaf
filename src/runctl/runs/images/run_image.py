"""A run's image: where it is built, whether it is there, and how the machine comes by it."""

from __future__ import annotations

import base64
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from runctl._dataclasses import dataclass
from runctl.agent.spec import BuildSpec, ContainerSpec, RunSpec
from runctl.agent.stored_run import by_digest
from runctl.containers.cache_keeping import caches_to_push
from runctl.containers.client import DockerClient, find_client
from runctl.containers.container_options import without_it
from runctl.containers.image_inputs import ImageInputs, unpinned_bases
from runctl.containers.image_plan import ImagePlan
from runctl.containers.where import (
    INSTANCE,
    LOCAL,
    BuildFacts,
    BuildLocation,
    ImagePlanOfRun,
    choose_build_location,
)
from runctl.core.errors import MachineError, NotFound, RunctlError, Unsupported, UsageError
from runctl.project.docker.dockerfile import DockerfileChoice
from runctl.project.label import fit_for_a_tag
from runctl.providers.registry import is_this_computer, registry_owner, usual_registry
from runctl.runs.images.build import ImageBuild, ImageProject, image_registry
from runctl.runs.images.registry_logins import host_of, login_to, token_for, users_login

if TYPE_CHECKING:
    from runctl.core.machine_models import Instance
    from runctl.machines.machine import Machine
    from runctl.machines.session import Session
    from runctl.project.selection import Selection
    from runctl.providers.abilities.image_registry import RegistryLogin
    from runctl.runs.train.plan import RunPlan
from runctl.runs.images.settled_image import (
    BY_CONFIGURATION,
    NOT_SHARED,
    ImageOptions,
    SettledImage,
    Shared,
    with_dev_parts,
)


@dataclass
class RunImage:
    """One run's image."""

    session: Session
    options: ImageOptions
    container: ContainerSpec | None
    root: Path
    instance: Instance
    """Where the run is to be."""
    machine: Machine | None
    """``None``: it is not rented yet, and will have no image."""
    container_reason: str = ""
    """What decided that it has this container, or none."""

    @cached_property
    def is_built(self) -> bool:
        """Whether there is a Dockerfile. Raises `UsageError` for options of a build where there is none."""
        built = self.container is not None and self.container.dockerfile is not None
        if not built and (self.options.build.given or self.options.build_on):
            raise UsageError(
                "build options have no effect here: the run is not built from a Dockerfile"
                f" ({self.container_reason})",
                hint=without_it("name one with --dockerfile PATH", "leave them out", self.container_reason),
            )
        return built

    @cached_property
    def location(self) -> BuildLocation:
        """Where it is built."""
        engine, why = self._engine
        config = self.session.config.docker
        return choose_build_location(
            BuildFacts(
                asked=self.options.build_on or config.build_on,
                registry=config.registry,
                this_computer=is_this_computer(self.instance.provider),
                dev_mode=self.container is not None and self.container.code == "mount",
                engine=engine.platform if engine is not None else None,
                no_engine=why,
                platform=self.options.build.platform or self._machine_platform,
            )
        )

    @cached_property
    def build(self) -> ImageBuild:
        """The build, as the docker commands know it."""
        assert self.container is not None  # noqa: S101 - asked only where there is a Dockerfile
        registry = self.session.config.docker.registry
        if self.location.where == LOCAL:
            registry = registry or usual_registry(self.instance.provider)
        choice = DockerfileChoice(str(self.container.dockerfile), "")
        name = self.session.config.project.name or fit_for_a_tag(self.root.name)
        return ImageBuild(
            self.session,
            ImageProject(self.root, name, choice),
            self.options.build,
            registry,
            self.instance.provider,
            self.instance.instance_type if not is_this_computer(self.instance.provider) else None,
        )

    def settle(self, selection: Selection | None, script: str | None) -> SettledImage | None:
        """The decision; nothing has been built or created. ``None`` for a run on the host.

        ``script`` is the one that runs, from the root; ``None`` for a command.
        """
        is_built = self.is_built
        if self.container is None:
            return None
        if not is_built or selection is None:
            return SettledImage(self.container)
        if self.location.where == LOCAL:
            return self._settle_local(self.container)
        return self._settle_on_machine(self.container, selection, script)

    @contextmanager
    def ready(self, plan: RunPlan) -> Iterator[None]:
        """What is built here is in the registry, and the machine can get it; what it was entrusted with for that is
        gone when the block fails."""
        if plan.image is not None and plan.image.where == LOCAL:
            self.build.build_and_push()
        elif plan.image is not None and plan.image.will_create:
            self.build.ensure_repository()
        built_here = plan.image is not None and plan.image.where == LOCAL
        with self.entrusted(plan.spec, self._secrets(plan), built_here=built_here):
            yield

    @contextmanager
    def entrusted(
        self, spec: RunSpec, secrets: Mapping[str, str], *, built_here: bool = False
    ) -> Iterator[None]:
        """The machine can get the run's images; what it was entrusted with for that is gone when the block fails."""
        logins = [
            {"host": login.host, "username": login.username, "password": login.password}
            for login in self._logins(spec, built_here=built_here)
        ]
        if not logins and not secrets:
            yield
            return
        assert self.machine is not None  # noqa: S101 - nothing is entrusted to a machine that is not there
        self.machine.agent.entrust(spec.run_id, logins=logins, secrets=secrets)
        try:
            yield
        except BaseException:
            self._forget(self.machine, spec.run_id)
            raise

    def provider_reference(self, spec: RunSpec) -> str:
        """The image that the machine's own role can pull: it is in the registry of its provider, account and region.
        Empty where it is somewhere else."""
        container = spec.container
        if container is None or container.image is None or container.build is not None:
            return ""
        host = host_of(container.image)
        if host is None or token_for(self.session, host, [self.instance.provider]) is None:
            return ""
        return container.image

    def pinned(self, reference: str) -> str:
        """An image of the provider's registry by its digest. Raises `NotFound` where it is not there."""
        if "@" in reference:
            return reference
        _, _, path = reference.partition("/")
        repository, _, tag = path.partition(":")
        registry = image_registry(self.session, self.instance.provider)
        for image in registry.images(repository):
            if (tag or "latest") in image.tags:
                return by_digest(reference, image.digest)
        raise NotFound(
            f"{reference} is not in the registry",
            hint="push it first, or let it be built: --build-on local",
            code="image-not-found",
        )

    def publish(self, plan: RunPlan) -> None:
        """What is built here is in the registry."""
        if plan.image is not None and plan.image.where == LOCAL:
            self.build.build_and_push()

    def needs_login(self, spec: RunSpec) -> bool:
        """Whether a machine gets the run's images only with a login, as far as this computer can tell."""
        return bool(self._logins(spec, built_here=False))

    def _forget(self, machine: Machine, run_id: str) -> None:
        try:
            machine.agent.forget_entrusted(run_id)
        except RunctlError as error:
            self.session.progress.detail(
                f"what {run_id} was given for the build is removed later: {error.message}"
            )

    def _settle_local(self, container: ContainerSpec) -> SettledImage:
        image, target = self.build.plan, self.build.target
        assert target is not None  # noqa: S101 - there is a registry
        shown = self._shown(image, str(image.remote), self.build.find(pushes=True))
        if target.plan is not None:
            shown = replace(shown, will_create=target.plan.will_create)
        return SettledImage(replace(container, dockerfile=None, image=image.remote), shown)

    def _settle_on_machine(
        self, container: ContainerSpec, selection: Selection, script: str | None
    ) -> SettledImage:
        image, tree = self._image_on_machine(selection)
        self._warn_of_what_stays_here(image, selection)
        image.check()
        options = self.build.options
        cached = self.session.config.docker.registry is not None and not options.rebuild.no_cache
        there = None
        if not options.rebuild and self.machine is not None and self.machine.agent.has_image(image.local):
            there = "machine"
        shared = self._shared(image) if there is None else NOT_SHARED
        if shared.is_there and not options.rebuild:
            pulled = replace(container, dockerfile=None, image=shared.reference)
            return SettledImage(pulled, self._shown(image, str(shared.reference), "registry"))
        build = BuildSpec(
            tag=image.local,
            tree=tree,
            inputs=image.inputs.digest,
            project=image.project,
            target=image.inputs.target,
            args=dict(image.inputs.args),
            secrets=tuple(secret.id for secret in self.build.secrets),
            platform=options.platform,
            cache_from=self._caches(image) if cached else (),
            no_cache=options.rebuild.no_cache,
            pull=options.rebuild.pull,
            only=self.options.only,
            published=shared.reference,
            caches=shared.caches,
        )
        container = with_dev_parts(container, self.root, script, selection.found, target=image.inputs.target)
        text = json.dumps([build.target, dict(sorted(build.args.items())), build.platform])
        parts = {
            **(container.dev_parts or {}),
            "the options of the build": hashlib.sha256(text.encode()).hexdigest(),
        }
        shown = self._shown(image, image.local, there)
        return SettledImage(
            replace(container, build=build, dev_parts=parts),
            replace(shown, published=shared.reference, will_create=shared.will_create),
        )

    def _warn_of_what_stays_here(self, image: ImagePlan, selection: Selection) -> None:
        """Here a build would find in the folder what git ignores; on the machine it does not."""
        from runctl.containers.dockerfile_text import copied_paths
        from runctl.project.files import ProjectFiles
        from runctl.project.sent import why_ignored

        files = ProjectFiles(self.root, selection.found)
        sources = {
            path: line for line, path in copied_paths(image.inputs.dockerfile_text, image.inputs.target)
        }
        missing = [path for path in sources if path and files.stays_here(path)]
        for path, why in why_ignored(self.root, missing).items():
            self.session.progress.warn(
                f"{image.inputs.dockerfile}:{sources[path]} copies {path}, which is ignored ({why}) and is not sent;"
                f" --include-pattern {path} sends it"
            )

    def _image_on_machine(self, selection: Selection) -> tuple[ImagePlan, str]:
        """Its inputs are what is sent, less what .dockerignore leaves out; and the digest of what is sent."""
        from runctl.core.files import cache_folder
        from runctl.project.docker.build_context import context_of_manifest
        from runctl.project.manifest import HashCache, build_manifest
        from runctl.project.root import project_name

        # The sync that follows asks for the same files.
        hashes = HashCache.load(cache_folder() / "hashes" / f"{project_name(self.root)}.json")
        try:
            manifest = build_manifest(selection, hashes)
        finally:
            hashes.save()
        context = context_of_manifest(self.root, self.build.project.dockerfile.path, manifest)
        inputs = ImageInputs(
            context.dockerfile,
            context.dockerfile_text,
            context.entries,
            self.build.args,
            self.options.build.target or self.session.config.docker.target,
            self.options.build.platform or self._machine_platform,
        )
        return ImagePlan(self.root, self.build.project.name, inputs), manifest.digest

    def _shared(self, image: ImagePlan) -> Shared:
        """Where the machine finds what others have built, and leaves what it builds."""
        target, dev_mode = self.build.target, self.container is not None and self.container.code == "mount"
        if target is None or dev_mode or self.options.only or is_this_computer(self.instance.provider):
            return NOT_SHARED
        image = replace(image, repository=target.repository)
        if target.plan is None:
            # What is there only the machine can say, and so nothing is put in a cache's place.
            host = host_of(target.repository)
            known = users_login(host) if host is not None else None
            return Shared(image.remote) if known is not None else NOT_SHARED
        tags: set[str] = set()
        if target.plan.exists and self.build.owner is not None:
            found = image_registry(self.session, self.build.owner).images(target.plan.name)
            tags = {tag for stored in found for tag in stored.tags}
        pushes = caches_to_push(image.stages, None, tags)
        return Shared(
            image.remote,
            image.tag in tags,
            {f"{image.repository}:{cache.tag}": cache.stage or "" for cache in pushes},
            target.plan.will_create,
        )

    def _caches(self, image: ImagePlan) -> tuple[str, ...]:
        target = self.build.target
        if target is None or (target.plan is not None and not target.plan.exists):
            return ()
        return replace(image, repository=target.repository).cache_sources()

    def _shown(self, image: ImagePlan, reference: str, there: str | None) -> ImagePlanOfRun:
        return ImagePlanOfRun(
            self.location.where,
            self.location.reason,
            reference,
            there,
            image.inputs.platform,
            image.inputs.target,
            unpinned=unpinned_bases(image.inputs.parsed, image.inputs.target),
        )

    def _logins(self, spec: RunSpec, *, built_here: bool) -> list[RegistryLogin]:
        """For the machine: it has no rights of its own in the registry, and gets a token that ends by itself.

        The user's own login goes to the machine for the registry only that the configuration, or the build, names.
        """
        container = spec.container
        if container is None or is_this_computer(self.instance.provider):
            return []
        caches = container.build.cache_from if container.build is not None else ()
        published = container.build.published if container.build is not None else None
        hosts = {
            host for image in (container.image, published, *caches) if image and (host := host_of(image))
        }
        named = self.session.config.docker.registry
        if named is None and built_here:
            named = self.build.registry
        owner = registry_owner(named) or self.instance.provider
        users = host_of(named) if named is not None else None
        logins = (
            login_to(self.session, host, [owner]) if host == users else token_for(self.session, host, [owner])
            for host in sorted(hosts)
        )
        return [login for login in logins if login is not None]

    def _secrets(self, plan: RunPlan) -> dict[str, str]:
        if plan.image is None or plan.image.where != INSTANCE:
            return {}
        return {
            secret.id: base64.b64encode(secret.content(os.environ)).decode() for secret in self.build.secrets
        }

    @cached_property
    def _engine(self) -> tuple[DockerClient | None, str]:
        asked = self.options.build_on or self.session.config.docker.build_on
        if asked == INSTANCE or (asked is None and self.session.config.docker.registry is None):
            return None, "it was not looked for"
        try:
            return find_client(), ""
        except (Unsupported, MachineError) as error:
            return None, error.message

    @cached_property
    def _machine_platform(self) -> str | None:
        if is_this_computer(self.instance.provider):
            return None
        return self.session.provider(self.instance.provider).platform(self.instance.instance_type)


@contextmanager
def logged_in(session: Session, machine: Machine, spec: RunSpec) -> Iterator[None]:
    """The machine can get the images of a run that is settled already; see `RunImage.entrusted`."""
    image = RunImage(session, BY_CONFIGURATION, spec.container, Path(), machine.instance, machine)
    with image.entrusted(spec, {}):
        yield
