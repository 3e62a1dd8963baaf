"""An image that is built on the machine, from the synced project."""

from __future__ import annotations

import contextlib
import os
import re
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from runctl.agent.attempt.attempt import Attempt
from runctl.agent.errors import AgentError
from runctl.agent.images import credentials, registry
from runctl.agent.machine import docker
from runctl.agent.spec import BuildSpec, ContainerSpec


def build_image(attempt: Attempt, engine: docker.Engine, container: ContainerSpec) -> str:
    """The engine has the image of this project; its tag. Raises `AgentError` (``image-failed``)."""
    spec, build = attempt.spec, container.build
    # What the plan was made for may have been synced over meanwhile: then its names say something else.
    named = build is not None and build.tree in (None, attempt.live.tree)
    tag = build.tag if build is not None and named else default_tag(spec.project, attempt.live.tree or "")
    published = build.published if build is not None and named else None
    rebuild = build is None or not named or build.no_cache or build.pull
    if not rebuild and engine.inspect("image", tag)[0]:
        attempt.log.line(f"the image {tag} is on the machine: there is nothing to build")
        return tag
    if published and not rebuild and registry.fetch(attempt, engine, container, published, tag):
        return tag
    has_buildkit = docker.buildkit()
    secrets = build.secrets if build is not None else ()
    if secrets and not has_buildkit:
        raise AgentError(
            "image-failed",
            "the machine's docker has no BuildKit, which build secrets need",
            "install docker's plug-in buildx there, or build here: --build-on local",
        )
    files = {name: str(credentials.secret_file(spec.run_id, name)) for name in secrets}

    def build_stage(image: str, stage: str | None = None) -> None:
        options = build_options(
            container,
            spec.project,
            attempt.folder.work,
            image,
            buildkit=has_buildkit,
            secrets=files,
            stage=stage,
        )
        variables = {"DOCKER_BUILDKIT": "1" if has_buildkit else "0"}
        argv = engine.command(*credentials.config_options(spec.run_id), *options, env=variables)
        run_image_step(attempt, argv, "the image could not be built")

    attempt.phase(f"building the image from {container.dockerfile}")
    build_stage(tag)
    if build is not None and published:
        registry.publish(attempt, engine, container, build, build_stage if has_buildkit else None)
    return tag


def run_image_step(
    attempt: Attempt,
    argv: Sequence[str],
    failed: str,
    *,
    env: Mapping[str, str] | None = None,
    stdin: int | None = None,
    starts_script: bool = False,
) -> None:
    """Run a program to its end, its output in the log; ``env`` is added to the machine's own.

    While a program ``starts_script``, the log is the script's, whose bytes nothing may part: what the program says is
    in the log only if it fails. Raises `AgentError` (``image-failed``), which begins with ``failed``.
    """
    since = attempt.log.size()
    variables = {**os.environ, **(env or {}), **attempt.marks()}
    with contextlib.ExitStack() as held:
        output = held.enter_context(tempfile.TemporaryFile()) if starts_script else None
        pid = attempt.children.start(
            argv,
            output=attempt.log.fd if output is None else output.fileno(),
            env=variables,
            cwd=attempt.folder.path,
            stdin=stdin,
        )
        if attempt.wait_setup(pid).exit_code == 0:
            return
        if output is not None:
            output.seek(0)
            attempt.log.lines(output.read())
    raise AgentError("image-failed", f"{failed}:\n{attempt.log.last_lines(since)}")


def default_tag(project: str, digest: str) -> str:
    """The name of the image of a project's tree: repository names are lower case (distribution's grammar)."""
    name = re.sub(r"[^a-z0-9]+", "-", project.lower()).strip("-") or "project"
    return f"runctl/{name}:{digest[:12] or 'latest'}"


def build_options(
    container: ContainerSpec,
    project: str,
    context: Path,
    image: str,
    *,
    buildkit: bool,
    secrets: Mapping[str, str] | None = None,
    stage: str | None = None,
) -> list[str]:
    """The arguments of ``docker build``: the context is the project root, wherever the Dockerfile is; ``secrets`` are
    files by id.

    With ``stage`` it is the image of that stage alone, to be a cache.
    """
    # The old builder leaves the container of a step that fails, unless it is told not to.
    progress = ["--progress", "plain"] if buildkit else ["--force-rm"]
    file = str(context / str(container.dockerfile))
    build = container.build
    labels = {"runctl.project": (build.project if build is not None else "") or project}
    if build is not None and stage is None:
        labels["runctl.inputs"] = build.inputs
    options = (
        _requested(build, buildkit=buildkit, secrets=secrets or {}, stage=stage) if build is not None else []
    )
    labelled = [option for name, value in labels.items() for option in ("--label", f"{name}={value}")]
    return ["build", *progress, "--file", file, "--tag", image, *options, *labelled, str(context)]


def _requested(
    build: BuildSpec, *, buildkit: bool, secrets: Mapping[str, str], stage: str | None
) -> list[str]:
    target = stage or build.target
    options = ["--target", target] if target else []
    options += ["--platform", build.platform] if build.platform and buildkit else []
    options += ["--pull"] if build.pull and stage is None else []
    options += ["--no-cache"] if build.no_cache and stage is None else []
    for name, value in sorted(build.args.items()):
        options += ["--build-arg", f"{name}={value}"]
    if build.published and buildkit:
        # What is pushed can be a cache to others then.
        options += ["--build-arg", "BUILDKIT_INLINE_CACHE=1"]
    for name in build.secrets:
        options += ["--secret", f"id={name},src={secrets[name]}"]
    if buildkit and not build.no_cache:
        for reference in build.cache_from:
            options += ["--cache-from", reference]
    return options
