"""The project's Compose file: its services, and the variables that it takes from its surroundings.

Compose fills in ``${NAME}`` from the caller's variables and from ``.env`` beside the file
(https://docs.docker.com/reference/compose-file/interpolation). On the machine there is neither, so they are found here.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import field
from pathlib import Path, PurePosixPath
from typing import Any

from runctl._dataclasses import dataclass
from runctl.core.errors import NotFound, ProjectError
from runctl.core.names import did_you_mean
from runctl.project.files import ProjectFiles

COMPOSE_FILES = ("compose.yaml", "compose.yml", "docker-compose.yml", "docker-compose.yaml")
"""In the order in which Compose itself looks for them."""
VARIABLES_FILE = ".env"
OF_THE_MACHINE = frozenset(
    ("GID", "HOME", "HOSTNAME", "LOGNAME", "OLDPWD", "PATH", "PWD", "SHELL", "TMPDIR", "UID", "USER")
)
"""What these say here is wrong there, unless ``.env`` or ``--env`` says it."""
_REFERENCE = re.compile(r"\$(?:\$|\{?(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?P<operator>:?[-+?])?)")


@dataclass(frozen=True)
class ComposeFile:
    """What the file says, as far as it matters before it is sent."""

    name: str
    """From the project's root."""
    services: tuple[str, ...]
    """With those of the files that it includes."""
    variables: Mapping[str, bool] = field(default_factory=dict)
    """Those that it takes from its surroundings; ``True`` where it does without."""
    env_files: tuple[str, ...] = ()
    """Files that a service reads its variables from and must have, from the root."""


@dataclass(frozen=True)
class ComposeVariables:
    """What a run gives Compose to fill in."""

    values: Mapping[str, str] = field(default_factory=dict, repr=False)
    sources: Mapping[str, str] = field(default_factory=dict)
    """Where each value comes from, for a person."""
    missing: tuple[str, ...] = ()
    """Those that the file needs and nobody has set: Compose takes them as empty."""


def find_compose_file(files: ProjectFiles) -> str:
    """Its name, from the root. Raises `NotFound`; also for one that the machine does not get."""
    root = files.root
    for name in COMPOSE_FILES:
        if files.has(name):
            return name
    for name in COMPOSE_FILES:
        if files.stays_here(name):
            raise NotFound(
                f"{name} is ignored, and is not sent to the machine",
                hint=f"--include-pattern {name} sends it",
                code="no-compose-file",
            )
    raise NotFound(
        f"there is no Compose file in {root}; looked for {', '.join(COMPOSE_FILES)}",
        hint="write one, or leave --compose out",
        code="no-compose-file",
    )


def read_compose_file(root: Path, name: str) -> ComposeFile:
    """The file ``name`` with what it includes and extends. Raises `ProjectError` for what is not YAML."""
    reader = _Reader(root)
    reader.read(PurePosixPath(name), own_services=True)
    return ComposeFile(name, tuple(reader.services), reader.variables, tuple(dict.fromkeys(reader.env_files)))


def check_service(file: ComposeFile, service: str) -> None:
    """The file has this service. Raises `NotFound`."""
    if service in file.services:
        return
    known = ", ".join(file.services) or "none"
    suggestion = did_you_mean(service, file.services)
    raise NotFound(
        f"{file.name} has no service {service!r}; it has {known}",
        hint=suggestion or "name one of them with --compose",
        code="no-compose-service",
    )


def check_env_files(file: ComposeFile, root: Path, sent: Collection[str]) -> None:
    """What services read their variables from will be on the machine. Raises `ProjectError`."""
    for path in file.env_files:
        if path not in sent and (root / path).is_file():
            raise ProjectError(
                f"a service of {file.name} reads {path} (env_file), which is not sent to the machine",
                hint=f"send it: --include-pattern {path}",
                code="compose-env-file",
            )


def read_variables_file(root: Path) -> dict[str, str]:
    """The values of ``.env``, as Compose reads it; empty where there is none. Raises `ProjectError`."""
    from dotenv import dotenv_values

    path = root / VARIABLES_FILE
    if not path.is_file():
        return {}
    try:
        return {name: value for name, value in dotenv_values(path).items() if value is not None}
    except (OSError, UnicodeDecodeError) as error:
        raise ProjectError(
            f"{path} cannot be read: {error}", hint="Compose takes variables from it"
        ) from error


def choose_variables(
    file: ComposeFile, given: Mapping[str, str], caller: Mapping[str, str], from_file: Mapping[str, str]
) -> ComposeVariables:
    """The variables that the file asks for, nearest first: ``given`` to this run, the caller's own, ``.env``. Pure."""
    values: dict[str, str] = {}
    sources: dict[str, str] = {}
    missing: list[str] = []
    for name, optional in sorted({**file.variables, "COMPOSE_PROFILES": True}.items()):
        if name in given:
            values[name], sources[name] = given[name], "--env"
        elif name in caller and name not in OF_THE_MACHINE:
            values[name], sources[name] = caller[name], "this shell"
        elif name in from_file:
            values[name], sources[name] = from_file[name], VARIABLES_FILE
        elif not optional and name not in OF_THE_MACHINE:
            missing.append(name)
    return ComposeVariables(values, sources, tuple(missing))


class _Reader:
    """Gathers from a file and those that it names."""

    def __init__(self, root: Path) -> None:
        self.services: list[str] = []
        self.variables: dict[str, bool] = {}
        self.env_files: list[str] = []
        self._root = root
        self._seen: set[PurePosixPath] = set()

    def read(self, name: PurePosixPath, *, own_services: bool) -> None:
        if name in self._seen:
            return
        self._seen.add(name)
        document = _load(self._root / name, str(name))
        services = document.get("services")
        services = services if isinstance(services, dict) else {}
        if own_services:
            self.services += [str(service) for service in services if service not in self.services]
        for text in _texts(document):
            for found in _REFERENCE.finditer(text):
                if found["name"]:
                    self._add(
                        found["name"],
                        optional="-" in (found["operator"] or "") or "+" in (found["operator"] or ""),
                    )
        for secret in _values(document.get("secrets"), document.get("configs")):
            if isinstance(secret, dict) and isinstance(secret.get("environment"), str):
                self._add(secret["environment"], optional=False)
        for service in services.values():
            if isinstance(service, dict):
                self._service(service, name)
        for entry in _list(document.get("include")):
            paths = entry.get("path") if isinstance(entry, dict) else entry
            for path in _list(paths):
                self._follow(path, name, own_services=own_services)

    def _service(self, service: dict[str, Any], file: PurePosixPath) -> None:
        build = service.get("build")
        build_args = build.get("args") if isinstance(build, dict) else None
        for name in (*_passed_on(service.get("environment")), *_passed_on(build_args)):
            # Without a value here the service has none, as with docker itself.
            self._add(name, optional=True)
        for entry in _list(service.get("env_file")):
            path = entry.get("path") if isinstance(entry, dict) else entry
            required = not isinstance(entry, dict) or entry.get("required", True)
            if isinstance(path, str) and required and "$" not in path and not path.startswith("/"):
                self.env_files.append(_from_root(file, path))
        extends = service.get("extends")
        if isinstance(extends, dict) and isinstance(extends.get("file"), str):
            self._follow(extends["file"], file, own_services=False)

    def _follow(self, path: object, file: PurePosixPath, *, own_services: bool) -> None:
        if not isinstance(path, str) or "$" in path or path.startswith("/"):
            return
        name = PurePosixPath(_from_root(file, path))
        if (self._root / name).is_file():
            self.read(name, own_services=own_services)

    def _add(self, name: str, *, optional: bool) -> None:
        self.variables[name] = optional and self.variables.get(name, True)


def _load(path: Path, name: str) -> dict[str, Any]:
    import yaml

    class Loader(yaml.SafeLoader):
        """Compose has tags of its own, such as ``!reset``: what they stand before is a value all the same."""

        def flatten_mapping(self, node: yaml.MappingNode) -> None:
            super().flatten_mapping(node)
            # What is merged twice would be there twice, and by aliases of aliases without bound. The last one counts.
            pairs = {(id(key), id(value)): (key, value) for key, value in reversed(node.value)}
            node.value = list(reversed(pairs.values()))

    def any_tag(loader: yaml.SafeLoader, _suffix: str, node: yaml.Node) -> Any:
        if isinstance(node, yaml.MappingNode):
            return loader.construct_mapping(node, deep=True)
        if isinstance(node, yaml.SequenceNode):
            return loader.construct_sequence(node, deep=True)
        return node.value

    Loader.add_multi_constructor("!", any_tag)
    try:
        # The loader is a safe one.
        document = yaml.load(path.read_text(encoding="utf-8-sig"), Loader)  # noqa: S506
    except yaml.YAMLError as error:
        raise ProjectError(
            f"{name} is not valid YAML: {' '.join(str(error).split())}",
            hint="check it with: docker compose config",
        ) from error
    except RecursionError:
        raise ProjectError(
            f"{name} is nested too deeply", hint="does an alias in it stand for itself?"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ProjectError(f"{name} cannot be read: {error}", hint="check the file") from error
    if not isinstance(document, dict):
        raise ProjectError(f"{name} has no services", hint="check it with: docker compose config")
    return document


def _from_root(file: PurePosixPath, path: str) -> str:
    """A path beside the file, from the root, without ``.`` and ``..`` where that can be done."""
    parts: list[str] = []
    for part in (*file.parent.parts, *PurePosixPath(path).parts):
        if part == ".." and parts and parts[-1] != "..":
            parts.pop()
        else:
            parts.append(part)
    return "/".join(parts)


def _texts(value: object) -> Iterator[str]:
    """Every text in it, in its order. By aliases a part can be in many places, also in itself: it is read once."""
    seen: set[int] = set()
    todo = [value]
    while todo:
        found = todo.pop()
        if isinstance(found, str):
            yield found
        elif isinstance(found, (dict, list)) and id(found) not in seen:
            seen.add(id(found))
            todo += reversed(list(_values(found)) if isinstance(found, dict) else found)


def _values(*mappings: object) -> Iterator[object]:
    for mapping in mappings:
        if isinstance(mapping, dict):
            yield from mapping.values()


def _list(value: object) -> list[Any]:
    if value is None:
        return []
    return value if isinstance(value, list) else [value]


def _passed_on(variables: object) -> Iterator[str]:
    """Names without a value: their value is the caller's."""
    if isinstance(variables, dict):
        yield from (str(name) for name, value in variables.items() if value is None)
    for entry in variables if isinstance(variables, list) else ():
        if isinstance(entry, str) and "=" not in entry:
            yield entry
