"""What can be configured, and how the layers become one `Config`.

Nearest wins, key by key: flags, then ``RUNCTL_…`` variables, then the project's file, then the user's file, then
the defaults below. Reading never fails: `read` returns what could be understood together with every `Problem`, so
that help, ``init``, ``config validate`` and ``doctor`` work beside a broken file; `load` raises for the rest.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from dataclasses import field
from decimal import Decimal
from pathlib import Path
from typing import Any, TypeVar

from runctl._dataclasses import dataclass
from runctl.core import extensions
from runctl.core.config.files import (
    ConfigFile,
    Problem,
    find_project_file,
    is_readable_file,
    parse_file,
    user_config_path,
)
from runctl.core.config.trust import is_trusted
from runctl.core.config.values import (
    NO_CHECKS,
    TRUST,
    USD,
    Bad,
    Checks,
    Rule,
    check,
    describe,
    from_text,
    rules_of,
)
from runctl.core.errors import ConfigError
from runctl.core.names import did_you_mean

VARIABLE_PREFIX = "RUNCTL_"
SANDBOX_VARIABLE = "RUNCTL_SANDBOX"
"""Set by ``sandbox env`` to the sandbox's endpoint: who speaks to just this address is in a sandbox."""
NOWHERE = "http://127.0.0.1:9"
"""Where ``sandbox env`` leads when there is no sandbox: nobody answers there, and it is not AWS."""


Section = TypeVar("Section")


@dataclass(frozen=True)
class ProjectConfig:
    """``[project]``: what the work is called."""

    name: str | None = None
    """Tags everything that is rented for it; by default the name of the project's folder."""


@dataclass(frozen=True)
class DockerConfig:
    """``[docker]``: runs in containers."""

    enabled: bool | None = None
    """``None``: in a container if the project has a Dockerfile."""
    dockerfile_path: str | None = None
    """Relative to the project's root."""
    image: str | None = field(default=None, metadata=TRUST)
    workdir: str = field(default="/workspace", metadata={"kind": "absolute"})
    target: str | None = None
    """The stage to build; by default the last one."""
    build_args: Mapping[str, str] = field(default_factory=dict)
    build_on: str | None = field(default=None, metadata={"choices": ("local", "instance")})
    registry: str | None = field(default=None, metadata=TRUST)
    """A provider's own by its name (``ecr``), or ``HOST/PATH``: images are named ``HOST/PATH:TAG`` there."""
    keep_images: int = field(default=10, metadata={"minimum": 1})
    """How many a repository of ours keeps."""
    pull_timeout: str = field(default="5m", metadata={"kind": "duration"})
    """A pull in which nothing has moved for so long has failed."""


@dataclass(frozen=True)
class TrainConfig:
    """``[train]``: every run."""

    timeout: str | None = field(default=None, metadata={"kind": "duration"})
    grace: str = field(default="30s", metadata={"kind": "duration"})
    """Between SIGTERM and SIGKILL."""
    env: Mapping[str, str] = field(default_factory=dict, metadata={"check": "variables"})
    interpreters: Mapping[str, str] = field(default_factory=dict, metadata=TRUST)
    """By the script's extension, without its dot: what runs it."""


@dataclass(frozen=True)
class CheckpointsConfig:
    """``[checkpoints]``: what a run saves is kept elsewhere as well."""

    s3: str | None = field(default=None, metadata={**TRUST, "check": "store"})
    """``s3://bucket/prefix``."""
    folder: str | None = field(default=None, metadata={**TRUST, "kind": "absolute", "check": "store-folder"})
    """Of the machine, where no ``s3`` is named."""
    endpoint: str | None = field(default=None, metadata={**TRUST, "check": "store-endpoint"})
    """Of an S3-compatible store; by default AWS."""
    every: str | None = field(default=None, metadata={"check": "checkpoint-every"})
    """How often the script is asked for one: a duration, or ``auto``."""
    keep_last: int | None = field(default=None, metadata={"minimum": 1})
    keep_best: tuple[str, ...] = ()
    """Patterns of names of which the newest stays besides."""


@dataclass(frozen=True)
class SyncConfig:
    """``[sync]``: what of the project goes to the machine."""

    include_patterns: tuple[str, ...] = ()
    """Brings back files that the ignore rules leave out."""
    max_size_mib: int = field(default=500, metadata={"minimum": 1})
    max_files: int = field(default=20000, metadata={"minimum": 1})


@dataclass(frozen=True)
class BudgetLimits:
    """``[budget.project.NAME]`` and ``[budget.user.NAME]``: USD that may be spent in each period."""

    day: Decimal | None = field(default=None, metadata=USD)
    week: Decimal | None = field(default=None, metadata=USD)
    month: Decimal | None = field(default=None, metadata=USD)


@dataclass(frozen=True)
class BudgetConfig:
    """``[budget]``: USD that may be spent in each period, by everybody together, for a project, by a user."""

    day: Decimal | None = field(default=None, metadata={**USD, **TRUST})
    week: Decimal | None = field(default=None, metadata={**USD, **TRUST})
    month: Decimal | None = field(default=None, metadata={**USD, **TRUST})
    warn_at: Decimal = field(default=Decimal("0.8"), metadata={"kind": "share", **TRUST})
    """The share of a limit from which on it is said how much is spent."""
    project: Mapping[str, BudgetLimits] = field(default_factory=dict, metadata=TRUST)
    user: Mapping[str, BudgetLimits] = field(default_factory=dict, metadata=TRUST)


@dataclass(frozen=True)
class Config:
    """Everything, merged. ``Config()`` is the defaults."""

    project: ProjectConfig = ProjectConfig()
    docker: DockerConfig = DockerConfig()
    train: TrainConfig = TrainConfig()
    checkpoints: CheckpointsConfig = CheckpointsConfig()
    sync: SyncConfig = SyncConfig()
    budget: BudgetConfig = BudgetConfig()
    provided: tuple[Any, ...] = ()
    """The sections that providers bring, where something in them is not the default; see `section`."""
    origins: Mapping[str, str] = field(default_factory=dict, compare=False, repr=False)
    """For every dotted key that is not its default: the flag, variable or file (with line) that set it."""

    def section(self, kind: type[Section]) -> Section:
        """The section that is described by a provider's dataclass; its defaults where nothing is set."""
        return next((found for found in self.provided if isinstance(found, kind)), kind())

    def with_values(self, values: Mapping[str, Any]) -> Config:
        """The same with other values for some dotted keys of providers' sections."""
        changed: dict[type, dict[str, Any]] = {}
        known = extensions.sections()
        for key, value in values.items():
            section, name = key.split(".", 1)
            changed.setdefault(known[section], {})[name] = value
        others = tuple(found for found in self.provided if type(found) not in changed)
        own: tuple[Any, ...] = tuple(
            dataclasses.replace(self.section(kind), **fields) for kind, fields in changed.items()
        )
        return dataclasses.replace(self, provided=(*others, *own))

    def origin(self, key: str) -> str:
        """Where the value of a dotted key came from, in words."""
        return self.origins.get(key, "default")


@dataclass(frozen=True)
class Reading:
    """What could be understood, and what could not."""

    config: Config
    problems: tuple[Problem, ...]
    files: tuple[Path, ...]
    """Those that were read, the strongest first."""


OWN_SECTIONS: dict[str, type] = {
    "project": ProjectConfig,
    "docker": DockerConfig,
    "train": TrainConfig,
    "checkpoints": CheckpointsConfig,
    "sync": SyncConfig,
    "budget": BudgetConfig,
}


def sections() -> dict[str, type]:
    """Every section that there is, with those that installed providers bring."""
    return {**extensions.sections(), **OWN_SECTIONS}


def rules() -> dict[str, Rule]:
    """What each dotted key may hold."""
    return {
        f"{section}.{name}": rule
        for section, kind in sections().items()
        for name, rule in rules_of(kind).items()
    }


def read(
    cwd: Path,
    *,
    environ: Mapping[str, str] | None = None,
    config_file: Path | None = None,
    flags: Mapping[str, tuple[object, str]] | None = None,
    user_file: Path | None = None,
    checks: Checks = NO_CHECKS,
) -> Reading:
    """Merge all layers as seen from ``cwd``; never raises.

    ``config_file`` stands in for the project's file: whoever names a file trusts it. What the project's own file says
    without being trusted is a problem, and left out. ``flags`` maps dotted keys to (value, name of the flag);
    ``checks`` are those of the options that mean the same.
    """
    environ = os.environ if environ is None else environ
    merged: dict[str, tuple[Any, str]] = {}
    problems: list[Problem] = []
    files: list[Path] = []
    project: ConfigFile | None
    if config_file is not None:
        project = ConfigFile(config_file, ("tool", "runctl") if config_file.name == "pyproject.toml" else ())
        if not is_readable_file(config_file):
            problems.append(Problem(str(config_file), None, "", "the file does not exist", "check the path"))
            project = None
    else:
        project, found_problems = find_project_file(cwd)
        problems += found_problems
    user = user_file if user_file is not None else user_config_path()
    for layer in (ConfigFile(user) if is_readable_file(user) else None, project):
        if layer is not None:
            files.insert(0, layer.path)
            values, wrong = read_file(layer, checks)
            problems += wrong
            if layer is project and config_file is None:
                untrusted = untrusted_values(layer, values)
                problems += _distrusted(layer, untrusted)
                values = {key: value for key, value in values.items() if key not in untrusted}
            _overlay(merged, values)
    values, wrong = _read_variables(environ, checks)
    problems += wrong
    _overlay(merged, values)
    _overlay(merged, dict(flags or {}))
    return Reading(_build(merged), tuple(problems), tuple(files))


def load(
    cwd: Path,
    *,
    environ: Mapping[str, str] | None = None,
    config_file: Path | None = None,
    flags: Mapping[str, tuple[object, str]] | None = None,
    user_file: Path | None = None,
    checks: Checks = NO_CHECKS,
) -> Config:
    """`read`, and raise `ConfigError` for what is wrong: the first problem, and how many more there are."""
    reading = read(
        cwd, environ=environ, config_file=config_file, flags=flags, user_file=user_file, checks=checks
    )
    if reading.problems:
        first, *more = reading.problems
        others = f" (and {len(more)} more: runctl config validate)" if more else ""
        hint = first.hint or ("" if more else "runctl config validate checks it again")
        raise ConfigError(first.text() + others, hint=hint)
    return reading.config


def read_file(
    file: ConfigFile, checks: Checks = NO_CHECKS
) -> tuple[dict[str, tuple[Any, str]], list[Problem]]:
    """The file's good values by dotted key, each with its origin, and what is wrong with the rest."""
    parsed = parse_file(file)
    values: dict[str, tuple[Any, str]] = {}
    problems = list(parsed.problems)

    def complain(path: tuple[str, ...], message: str, hint: str = "") -> None:
        line = parsed.line_of(path)
        problems.append(Problem(str(file.path), line, ".".join(path), message, hint))

    known, known_sections = rules(), sections()
    for section, content in parsed.content.items():
        if section not in known_sections:
            complain((section,), *_unknown(section, content, known_sections))
        elif not isinstance(content, dict):
            complain((section,), f"expected a section [{section}], not {describe(content)}")
        else:
            for name, value in content.items():
                key = f"{section}.{name}"
                if key not in known:
                    names = [
                        known_key.split(".", 1)[1]
                        for known_key in known
                        if known_key.startswith(section + ".")
                    ]
                    complain((section, name), "unknown key", _suggest(name, names, "keys"))
                    continue
                try:
                    good = check(known[key], value, relative_to=file.path.parent, checks=checks)
                except Bad as bad:
                    complain((section, name, *bad.below), str(bad))
                else:
                    values[key] = (good, str(file.path))
    return values, problems


def values_to_trust(values: Mapping[str, tuple[Any, str]]) -> dict[str, Any]:
    """Of a file's values, those that count only if the user trusts the file."""
    known = rules()
    # A provider's own registry is the user's.
    harmless = {"docker.registry": extensions.registries()}
    return {
        key: value
        for key, (value, _) in values.items()
        if known[key].trust and value not in harmless.get(key, ())
    }


def untrusted_values(file: ConfigFile, values: Mapping[str, tuple[Any, str]]) -> dict[str, Any]:
    """Those that the user would have to trust, and has not."""
    wanted = values_to_trust(values)
    return wanted if wanted and not is_trusted(file.path, wanted) else {}


def _distrusted(file: ConfigFile, untrusted: Mapping[str, Any]) -> list[Problem]:
    if not untrusted:
        return []
    parsed = parse_file(file)
    return [
        Problem(
            str(file.path),
            parsed.line_of(tuple(key.split("."))),
            key,
            "it decides what runs with your rights, where data goes or what may be spent, so the file must be"
            " trusted first",
            "read the file, then: runctl config trust",
        )
        for key in untrusted
    ]


def _read_variables(
    environ: Mapping[str, str], checks: Checks
) -> tuple[dict[str, tuple[Any, str]], list[Problem]]:
    known = {VARIABLE_PREFIX + key.upper().replace(".", "_"): (key, rule) for key, rule in rules().items()}
    prefixes = tuple(f"{VARIABLE_PREFIX}{section.upper()}_" for section in sections())
    values: dict[str, tuple[Any, str]] = {}
    problems: list[Problem] = []
    for variable in sorted(environ):
        text = environ[variable]
        if variable in known and text:
            key, rule = known[variable]
            try:
                values[key] = (from_text(rule, text, relative_to=Path.cwd(), checks=checks), variable)
            except Bad as bad:
                problems.append(Problem(f"${variable}", None, key, str(bad)))
        elif variable.startswith(prefixes) and variable not in known:
            problems.append(
                Problem(f"${variable}", None, "", "unknown variable", _suggest(variable, known, "variables"))
            )
    return values, problems


def _unknown(section: str, content: object, known: Mapping[str, Any]) -> tuple[str, str]:
    """What is said of a section that nobody knows, and what to do: it may be that of a provider."""
    if not isinstance(content, dict):
        return "unknown key", _suggest(section, known, "sections")
    reason = extensions.broken().get(section)
    if reason is not None:
        return f"the provider {section!r}, which knows this section, does not work: {reason}", "runctl doctor"
    near = did_you_mean(section, known)
    if near:
        return "unknown section", near
    providers = ", ".join(extensions.installed())
    return "unknown section", (
        f"known sections: {', '.join(known)}; if it is a provider's, install its package (installed: {providers})"
    )


def _suggest(given: str, known: Mapping[str, Any] | list[str], kind: str) -> str:
    near = did_you_mean(given, known)
    return near or f"known {kind}: {', '.join(known)}"


def _overlay(merged: dict[str, tuple[Any, str]], stronger: Mapping[str, tuple[Any, str]]) -> None:
    """Maps are merged by their own keys, everything else is replaced."""
    for key, (value, origin) in stronger.items():
        if isinstance(value, Mapping) and key in merged:
            weaker, before = merged[key]
            merged[key] = ({**weaker, **value}, f"{origin}, {before}")
        else:
            merged[key] = (value, origin)


def _build(merged: Mapping[str, tuple[Any, str]]) -> Config:
    def section_of(section: str, kind: type) -> Any:
        names = [field.name for field in dataclasses.fields(kind)]
        return kind(
            **{name: merged[f"{section}.{name}"][0] for name in names if f"{section}.{name}" in merged}
        )

    own = {section: section_of(section, kind) for section, kind in OWN_SECTIONS.items()}
    provided = tuple(
        value
        for section, kind in sections().items()
        if section not in OWN_SECTIONS and (value := section_of(section, kind)) != kind()
    )
    return Config(**own, provided=provided, origins={key: origin for key, (_, origin) in merged.items()})
