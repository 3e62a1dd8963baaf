"""A build as a command line: plain data in, argument lists out. No secret is on any of them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import field
from pathlib import Path

from runctl._dataclasses import dataclass
from runctl.containers.client import Builder
from runctl.core.errors import NotFound, Unsupported, UsageError
from runctl.core.files import expand_user

_SECRET_ID = re.compile(r"[A-Za-z0-9_.-]+")


@dataclass(frozen=True)
class Secret:
    """Something that steps of a build may read, and that is in no image and no digest."""

    id: str
    file: Path | None = None
    variable: str | None = None
    """Of this process; exactly one of the two is set."""

    @property
    def option(self) -> str:
        """For ``docker build --secret``: where it is, not what it is."""
        return (
            f"id={self.id},src={self.file}" if self.file is not None else f"id={self.id},env={self.variable}"
        )

    def content(self, environ: Mapping[str, str]) -> bytes:
        """What it is. Raises `OSError`, `KeyError`."""
        if self.file is not None:
            return self.file.read_bytes()
        return environ[str(self.variable)].encode("utf-8", "surrogateescape")


def parse_secret(text: str, cwd: Path, environ: Mapping[str, str]) -> Secret:
    """Read ``id=NAME,src=FILE`` or ``id=NAME,env=VARIABLE``. Raises `UsageError`, `NotFound`; never names its value."""
    pairs = dict(part.partition("=")[::2] for part in text.split(","))
    kind = pairs.pop("type", None)
    identifier = pairs.pop("id", "")
    file = pairs.pop("src", None) or pairs.pop("source", None)
    variable = pairs.pop("env", None)
    good = (
        _SECRET_ID.fullmatch(identifier)
        and not pairs
        and bool(file) != bool(variable)
        and kind in {None, "file" if file else "env"}
        and not (file and "," in file)
    )
    if not good:
        raise UsageError(
            f'--secret "{identifier or "?"}": it needs an id, and a file or a variable',
            hint="write --secret id=NAME,src=FILE or --secret id=NAME,env=VARIABLE",
            code="bad-secret",
        )
    if variable:
        if variable not in environ:
            raise NotFound(f"--secret id={identifier}: the variable {variable} is not set", code="no-secret")
        return Secret(identifier, variable=variable)
    path = (cwd / expand_user(str(file))).absolute()
    if not path.is_file():
        raise NotFound(f"--secret id={identifier}: there is no file {file}", code="no-secret")
    return Secret(identifier, file=path)


def parse_build_args(
    texts: Sequence[str], configured: Mapping[str, str], environ: Mapping[str, str]
) -> dict[str, str]:
    """``NAME=VALUE`` pairs over the configured ones; ``NAME`` alone takes the variable's value. Raises `UsageError`."""
    args = dict(configured)
    for text in texts:
        name, equals, value = text.partition("=")
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
            raise UsageError(
                f'--build-arg "{text}": "{name}" is not a name', hint="write --build-arg NAME=VALUE"
            )
        if not equals and name not in environ:
            raise UsageError(
                f"--build-arg {name}: the variable {name} is not set", hint="write --build-arg NAME=VALUE"
            )
        args[name] = value if equals else environ[name]
    return args


@dataclass(frozen=True)
class BuildCommand:
    """One call of ``docker build``."""

    context: Path
    dockerfile: str
    tags: tuple[str, ...]
    target: str | None = None
    args: Mapping[str, str] = field(default_factory=dict)
    secrets: tuple[Secret, ...] = ()
    platform: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    cache_from: tuple[str, ...] = ()
    """References of images, or of exported caches."""
    cache_to: str | None = None
    """Where buildx exports every stage's cache to."""
    inline_cache: bool = False
    """The image carries what is needed to be a cache itself."""
    pull: bool = False
    """Look for newer base images."""
    no_cache: bool = False
    push_to: str | None = None
    """The repository to which buildx pushes at once, by digest alone: the image has no tag there yet."""
    metadata_file: Path | None = None
    """Where buildx writes what it has made: the digest, with ``push_to``."""
    keeps_image: bool = True
    """Else only the caches are left; where nothing is pushed the image is in the engine afterwards."""

    def arguments(self, builder: Builder) -> list[str]:
        """Everything after ``docker``. Raises `Unsupported` for what the old builder cannot do."""
        if builder is Builder.LEGACY and self.secrets:
            raise Unsupported(
                "this docker has no BuildKit, which build secrets need",
                hint="install docker's plug-in buildx",
                code="no-buildkit",
            )
        arguments = {
            Builder.BUILDX: ["buildx", "build", "--progress", "plain", *self._output()],
            Builder.BUILT_IN: ["build", "--progress", "plain"],
            # The old builder leaves the container of a step that fails, unless it is told not to.
            Builder.LEGACY: ["build", "--force-rm"],
        }[builder]
        arguments += ["--file", str(self.context / self.dockerfile)]
        arguments += [argument for tag in self.tags for argument in ("--tag", tag)]
        arguments += ["--target", self.target] if self.target else []
        arguments += ["--platform", self.platform] if self.platform else []
        arguments += ["--pull"] if self.pull else []
        arguments += ["--no-cache"] if self.no_cache else []
        for name, value in sorted(self.args.items()):
            arguments += ["--build-arg", f"{name}={value}"]
        if builder is Builder.BUILT_IN and self.inline_cache:
            arguments += ["--build-arg", "BUILDKIT_INLINE_CACHE=1"]
        arguments += [argument for secret in self.secrets for argument in ("--secret", secret.option)]
        arguments += [
            argument
            for name, value in sorted(self.labels.items())
            for argument in ("--label", f"{name}={value}")
        ]
        arguments += self._cache(builder)
        return [*arguments, str(self.context)]

    def _output(self) -> list[str]:
        metadata = [] if self.metadata_file is None else ["--metadata-file", str(self.metadata_file)]
        if self.push_to is not None:
            pushed = f"type=image,name={self.push_to},push-by-digest=true,name-canonical=true,push=true"
            return ["--output", pushed, *metadata]
        return ["--load", *metadata] if self.keeps_image else ["--output", "type=cacheonly", *metadata]

    def _cache(self, builder: Builder) -> list[str]:
        if builder is not Builder.BUILDX:
            return [argument for reference in self.cache_from for argument in ("--cache-from", reference)]
        arguments = [
            argument for ref in self.cache_from for argument in ("--cache-from", f"type=registry,ref={ref}")
        ]
        if self.cache_to is not None:
            # As an image manifest of OCI types, the only form of a cache that ECR takes.
            options = f"type=registry,ref={self.cache_to},mode=max,image-manifest=true,oci-mediatypes=true"
            arguments += ["--cache-to", options]
        elif self.inline_cache:
            arguments += ["--cache-to", "type=inline"]
        return arguments
