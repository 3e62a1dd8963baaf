"""Building and pushing by this computer's docker: each is done once, and says so when it was done before."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from secrets import token_hex
from typing import IO

from runctl._dataclasses import dataclass
from runctl.containers.build_commands import BuildCommand, Secret
from runctl.containers.build_log import BuildLog
from runctl.containers.build_record import BuildRecords, hashed
from runctl.containers.cache_keeping import caches_to_push, doubtful_tags
from runctl.containers.client import Builder, DockerClient
from runctl.containers.explain import CacheReport, explain
from runctl.containers.failures import build_failure, registry_failure
from runctl.containers.image_plan import BUILDX_CACHE_TAG, NO_REBUILD, ImagePlan, Rebuild
from runctl.core.errors import ProjectError, RunctlError
from runctl.core.progress import SILENT, Progress

_GIVE_UP_SECONDS = 10.0
"""For docker to end a build that is not wanted any more."""
_LAYER = re.compile(r"([0-9a-f]{6,}): (.*)")
_DIGEST = re.compile(r"digest: (sha256:[0-9a-f]{64})")


_Now = Callable[[], str] | None
"""The digest of what is on the disk at that moment."""


def _unique() -> str:
    return token_hex(8)


@dataclass(frozen=True)
class Built:
    """The image is in the engine, or in the registry."""

    reference: str
    tag: str
    built: bool
    """``False``: it was there already."""
    where: str
    """``engine`` or ``registry``: where it is, or was found."""
    seconds: float
    report: CacheReport | None = None
    """How the cache served; ``None`` where nothing was built or the builder does not say."""


@dataclass(frozen=True)
class Pushed:
    """The image is in the registry."""

    reference: str
    pushed: bool
    """``False``: it was there already."""
    digest: str | None
    """Of its manifest, where docker said it."""
    layers: int
    layers_sent: int
    seconds: float
    caches: tuple[str, ...] = ()
    """The tags that were pushed as caches."""


class ImageBuilder:
    """Builds and pushes with one client; what was built last is remembered in ``records``."""

    def __init__(
        self,
        client: DockerClient,
        records: BuildRecords,
        progress: Progress = SILENT,
        new_build: Callable[[], str] = _unique,
    ) -> None:
        self.client = client
        self.records = records
        self.progress = progress
        self._new_build = new_build

    def in_registry(self, reference: str) -> bool:
        """Whether the registry has it. Raises `Unreachable`, `CredentialsError`, `PermissionDenied`."""
        insecure = ["--insecure"] if self._is_insecure(reference.partition("/")[0]) else []
        done = self.client.run("manifest", "inspect", *insecure, reference)
        said = done.stderr.decode(errors="replace")
        if done.returncode == 0:
            return True
        if re.search(r"no such manifest|manifest unknown|name unknown", said, re.IGNORECASE):
            return False
        raise registry_failure(said, reference, "looking for")

    def build(
        self,
        plan: ImagePlan,
        secrets: tuple[Secret, ...] = (),
        *,
        rebuild: Rebuild = NO_REBUILD,
        push: bool = False,
        now: Callable[[], str] | None = None,
    ) -> Built:
        """The image exists: in the engine, or with ``push`` where buildx sends it there at once, in the registry.

        ``now`` gives the digest of what is on the disk at that moment. Raises `ProjectError` (``build-failed``) with
        docker's last words, or (``file-changed``) when a file changed under the build, `MachineError`
        (``no-engine``, ``disk-full``). An interrupted build leaves no image, only what docker keeps of its steps.
        """
        plan.check()
        with self.records.alone(plan.root):
            if not rebuild and self.client.has_image(plan.local):
                self._remember(plan)
                return Built(plan.local, plan.tag, False, "engine", 0.0)
            started = time.monotonic()
            sends = push and self.client.builder is Builder.BUILDX and not self.client.keeps_images
            before = self.records.last(plan.root, plan.inputs)
            self.progress.step(f"building {plan.local} from {plan.inputs.dockerfile} ({self.client.builder})")
            build = self._build_in_registry if sends else self._build_in_engine
            log = build(plan, secrets, rebuild, self.client.exports_cache and push, now)
            report = None
            if self.client.builder is not Builder.LEGACY:
                report = explain(log.ordered, hashed(plan.inputs), before)
            self._remember(plan)
            where = "registry" if sends else "engine"
            reference = str(plan.remote) if sends else plan.local
            return Built(reference, plan.tag, True, where, time.monotonic() - started, report)

    def _build_in_engine(
        self, plan: ImagePlan, secrets: tuple[Secret, ...], rebuild: Rebuild, exports_cache: bool, now: _Now
    ) -> BuildLog:
        """The image has its names, which say what it was made from, once that is known to be so."""
        # Not by its id: of an image in containerd's store buildx may tell one that the engine does not know
        # (docker/buildx, pull request 3952).
        name = plan.unchecked(self._new_build())
        command = plan.command(
            self.client.builder, secrets, rebuild=rebuild, exports_cache=exports_cache, name=name
        )
        self._remove_unfinished(plan)
        self.records.begin(plan.root, name)
        try:
            log = self._run_build(command)
            _check_unchanged(plan, now)
            for checked in filter(None, (plan.local, plan.remote)):
                self._tag(name, checked)
        finally:
            self._remove_unfinished(plan, name)
        return log

    def _remove_unfinished(self, plan: ImagePlan, name: str | None = None) -> None:
        """What the name of the last build, or this one, has is gone; where the engine does not answer, the next build
        asks it again."""
        name = name or self.records.unfinished(plan.root)
        if name is None:
            return
        done = self.client.run("image", "rm", "--no-prune", name)
        if done.returncode == 0 or b"no such image" in done.stderr.lower():
            self.records.end(plan.root)

    def _build_in_registry(
        self, plan: ImagePlan, secrets: tuple[Secret, ...], rebuild: Rebuild, exports_cache: bool, now: _Now
    ) -> BuildLog:
        """As `_build_in_engine`; what is refused stays in the registry without a name, until that removes it."""
        with tempfile.TemporaryDirectory(prefix="runctl-build-") as folder:
            file = Path(folder) / "built.json"
            command = plan.command(
                self.client.builder, secrets, rebuild=rebuild, exports_cache=exports_cache, digest_file=file
            )
            log = self._run_build(command)
            digest = str(json.loads(file.read_bytes())["containerimage.digest"])
        _check_unchanged(plan, now)
        self._tag_in_registry(f"{plan.repository}@{digest}", str(plan.remote))
        return log

    def push(
        self,
        plan: ImagePlan,
        secrets: tuple[Secret, ...] = (),
        *,
        asked: bool = False,
        built: Built | None = None,
    ) -> Pushed:
        """The registry has the image, and each stage as a cache for the next machine.

        With ``asked`` the registry has been asked whether it has the image, or is to get it all the same.
        ``built`` is the build that has just been, which says what is new for the caches.
        The image must be in the engine. Raises `CredentialsError`, `PermissionDenied`, `Unreachable`, `NotFound`
        (no such repository); what was sent so far is kept by the registry, and the tag appears last.
        """
        reference = str(plan.remote)
        started = time.monotonic()
        if not asked and self.in_registry(reference):
            return Pushed(reference, False, None, 0, 0, time.monotonic() - started)
        just_built = built is not None and built.built
        if not just_built:
            # A build gives the image both of its names.
            self._tag(plan.local, reference)
        self.progress.step(f"pushing {reference}")
        report = built.report if built is not None else None
        tags = self._doubtful_caches(plan, report)
        with ThreadPoolExecutor(len(tags) or 1) as pool:
            looked = [pool.submit(self.in_registry, f"{plan.repository}:{tag}") for tag in tags]
            digest, layers, sent = self._push(reference)
            there = {tag for tag, found in zip(tags, looked, strict=True) if found.result()}
        caches = self._push_caches(plan, secrets, report, there)
        return Pushed(reference, True, digest, layers, sent, time.monotonic() - started, caches)

    def _doubtful_caches(self, plan: ImagePlan, report: CacheReport | None) -> tuple[str, ...]:
        if self.client.builder is Builder.LEGACY or self.client.exports_cache:
            return ()
        return doubtful_tags(plan.stages, report.stages if report is not None else None)

    def _push_caches(
        self,
        plan: ImagePlan,
        secrets: tuple[Secret, ...],
        report: CacheReport | None,
        there: Collection[str],
    ) -> tuple[str, ...]:
        if self.client.builder is Builder.LEGACY:
            # It knows no cache in a registry.
            return ()
        if self.client.exports_cache:
            if report is None:
                # Built by a command that had no registry: once more, all from the engine's cache, for the export.
                self._run_build(plan.command(self.client.builder, secrets, exports_cache=True), quiet=True)
            return (BUILDX_CACHE_TAG,)
        command = plan.command(self.client.builder, secrets)
        kept = []
        uses = report.stages if report is not None else None
        for cache in caches_to_push(plan.stages, uses, there):
            reference = f"{plan.repository}:{cache.tag}"
            name = "the image" if cache.stage is None else f"the stage {cache.stage}"
            self.progress.step(f"keeping {name} in the registry as a cache ({cache.tag})")
            try:
                if cache.stage is None:
                    self._tag(plan.local, reference)
                else:
                    self._run_build(plan.stage_command(command, cache.stage, reference), quiet=True)
                self._push(reference)
            except RunctlError as error:
                # The image is there; the next machine has to build the stage.
                self.progress.warn(f"{name} is not kept as a cache: {error.message}")
                continue
            finally:
                self.client.run("image", "rm", "--no-prune", reference)
            kept.append(cache.tag)
        return tuple(kept)

    def _tag_in_registry(self, source: str, reference: str) -> None:
        create = ("buildx", "imagetools", "create", "--tag", reference)
        # The image itself, and no list of one image; older ones of buildx have no such option.
        done = self.client.run(*create, "--prefer-index=false", source)
        if done.returncode != 0 and b"unknown flag" in done.stderr:
            done = self.client.run(*create, source)
        if done.returncode != 0:
            raise registry_failure(done.stderr.decode(errors="replace"), reference, "naming")

    def _tag(self, local: str, reference: str) -> None:
        done = self.client.run("image", "tag", local, reference)
        if done.returncode != 0:
            raise registry_failure(done.stderr.decode(errors="replace"), reference, "naming")

    def _push(self, reference: str) -> tuple[str | None, int, int]:
        layers: dict[str, str] = {}
        tail: list[str] = []

        def hear(line: str) -> None:
            tail.append(line)
            found = _LAYER.fullmatch(line)
            if found is not None:
                layers[found.group(1)] = found.group(2)
                done = sum(1 for state in layers.values() if _is_there(state))
                self.progress.update("layers", done=done, total=len(layers))

        code = stream(self.client.argv("push", reference), self.client.variables(), hear)
        if code != 0:
            raise registry_failure("\n".join(tail[-20:]), reference, "pushing")
        digest = _DIGEST.search("\n".join(tail))
        sent = sum(1 for state in layers.values() if state.startswith("Pushed"))
        return digest.group(1) if digest else None, len(layers), sent

    def _run_build(self, command: BuildCommand, *, quiet: bool = False) -> BuildLog:
        log = BuildLog()

        def hear(line: str) -> None:
            shown = log.feed(line)
            if shown is not None and not quiet:
                self.progress.note(shown)

        arguments = command.arguments(self.client.builder)
        code = stream(self.client.argv(*arguments), self.client.variables(), hear)
        if code != 0:
            raise build_failure(log.tail, code)
        return log

    def _remember(self, plan: ImagePlan) -> None:
        self.records.remember(plan.root, plan.inputs)

    def _is_insecure(self, host: str) -> bool:
        """Whether the engine speaks plain HTTP with it; the client must be told the same."""
        if is_insecure(host, b""):
            return True
        return is_insecure(host, self.client.run("info", "--format", "{{json .RegistryConfig}}").stdout)


def _check_unchanged(plan: ImagePlan, now: _Now) -> None:
    if now is not None and now() != plan.inputs.digest:
        raise ProjectError(
            f"files of {plan.root} changed while {plan.local} was being built",
            hint="build again when they are at rest; .dockerignore leaves out what is written all the time",
            code="file-changed",
        )


def is_insecure(host: str, registry_config: bytes) -> bool:
    """By the engine's own list; loopback always is. Pure."""
    name = host.rpartition(":")[0] or host
    if name == "localhost" or re.fullmatch(r"127(\.\d+){3}|\[::1\]", name):
        return True
    try:
        known = json.loads(registry_config)["IndexConfigs"][host]
    except (ValueError, KeyError, TypeError):
        return False
    return known.get("Secure") is False


def stream(argv: Sequence[str], env: Mapping[str, str], hear: Callable[[str], None]) -> int:
    """Run a program to its end and hand over its lines, of both streams; returns its exit code.

    Ctrl-C, or any error on the way, ends it first: SIGINT, on which docker gives the build up, then SIGKILL.
    """
    process = subprocess.Popen(
        argv,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=dict(env),
        # A Ctrl-C of the terminal is ours to pass on, once.
        start_new_session=True,
    )
    try:
        assert process.stdout is not None  # noqa: S101 - asked for above
        with process.stdout:
            for line in _lines(process.stdout):
                hear(line)
        return process.wait()
    except BaseException:
        with suppress(ProcessLookupError):
            process.send_signal(signal.SIGINT)
        try:
            process.wait(_GIVE_UP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        raise


def _lines(source: IO[bytes]) -> Iterator[str]:
    """A carriage return ends a line too."""
    for raw in source:
        yield from (part for part in re.split(r"[\r\n]", raw.decode(errors="replace")) if part)


def _is_there(state: str) -> bool:
    return state.startswith(("Pushed", "Layer already exists", "Mounted from"))
