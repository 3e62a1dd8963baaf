"""The run's own Python environment: sees the image's packages, has what the project asks for, pollutes nothing.

What uv manages (a lock, ``[tool.uv]``, a script's header) uv installs, as ``uv run`` would. Everything else is
installed as ``pip install`` would: by uv, which is quicker, where the result is the same, and else by pip.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import field
from pathlib import Path, PurePosixPath
from typing import Callable

from runctl._dataclasses import dataclass
from runctl.agent.environments import installer_settings, interpreter
from runctl.agent.environments.interpreter import Interpreter
from runctl.agent.errors import AgentError
from runctl.agent.machine import durable
from runctl.agent.spec import Dependencies, DependencyKind

UV_VERSION = "0.13.9"
UV_WHEELS = (
    "d7f459fe4fd247d830351c75686d3996ace3c6f3f728eb0e85a30b7ada0cef19",  # manylinux 2.17, x86-64
    "2c45530751517d6c3bbc69a19473f6effe47cce047bede01ffd8af7ea7b36b25",  # musllinux 1.1, x86-64
    "5435c5ce14a56431208ca0996416d310f1598e8c2c8ba707688985a16bb82dbe",  # manylinux 2.17 and musllinux 1.1, arm64
    "ecb6028d79dc96fbeafffe5c8af62a7099487ebc05a701e76714eebcffd06375",  # manylinux 2.28, arm64
    "66c512266d633bef48384a1f53003f41f2a8e7b36fe6e7fbfd3e0fd52d96fa63",  # macOS 11, arm64
    "c16ed11e013557536b3e60065f1b912f6407bd6518e041b961e23ef9e6b4fbf5",  # macOS 10.12, x86-64
)
"""SHA-256 of the files on PyPI that pip may choose among. What else claims to be this version is not installed."""
OLDEST_UV = (0, 7)
"""Older ones do not have all options that are used here; then one of our own is."""
_SETTINGS_OF_UV = ("pyproject.toml", "uv.toml")
TRUST_THE_MACHINE = {"UV_SYSTEM_CERTS": "true", "UV_NATIVE_TLS": "true"}
"""pip and the rest of the machine trust what its administrator told it to; by default uv does not. The second name is
that of older versions."""
STALE_LOCK = "needs to be updated"
"""uv's words, with ``--locked``."""

RunStep = Callable[[str, Sequence[str], Mapping[str, str], Path], None]
"""Runs one command of the set-up (phase in words, arguments, variables, folder), its output in the run's log.
Raises `AgentError` (``setup-failed``) when it fails."""


@dataclass(frozen=True)
class Ready:
    """What runs the script."""

    python: str
    bin_folder: Path | None
    """The environment's programs; ``None`` when the machine's own Python runs the script."""


@dataclass(frozen=True)
class VenvBuilder:
    """Where an environment is made, and with what."""

    env: Mapping[str, str]
    """The login shell's variables."""
    work: Path
    """The run's copy of the project."""
    target: Path
    """Where the environment comes to be."""
    state: Path
    """Holds the caches that runs share."""
    run: RunStep
    say: Callable[[str], None]
    asked_env: Mapping[str, str] = field(default_factory=dict)
    """The run's own variables: ``--env`` and the like. They are there for the installers, too."""

    @property
    def variables(self) -> dict[str, str]:
        """For installers: caches of our own, no questions, no advice about updates."""
        return {
            **self.env,
            "UV_CACHE_DIR": str(self.state / "cache" / "uv"),
            "PIP_CACHE_DIR": str(self.state / "cache" / "pip"),
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
            "UV_NO_PROGRESS": "1",
            "UV_LINK_MODE": "copy",
            **TRUST_THE_MACHINE,
            **self.asked_env,
            # Elsewhere than into the run's environment nothing is installed, whatever is asked for.
            "PIP_NO_INPUT": "1",
            "PIP_REQUIRE_VIRTUALENV": "0",
            "PIP_USER": "0",
            "PYTHONUNBUFFERED": "1",
        }

    @property
    def tools(self) -> Path:
        """Where our own uv is, or would be."""
        return self.state / "tools" / f"uv-{UV_VERSION}"

    @property
    def python(self) -> Path:
        """The environment's."""
        return self.target / "bin" / "python"

    def folder(self, needs: Dependencies) -> Path:
        """Where the installer is called."""
        return self.work / PurePosixPath(needs.folder)


def prepare(needs: Dependencies, builder: VenvBuilder) -> Ready:
    """What the project needs is installed. Raises `AgentError` (``setup-failed``)."""
    try:
        base, asked = interpreter.choose(builder.env, needs.requires_python)
    except ValueError as error:
        raise AgentError(
            "setup-failed",
            f"requires-python of {needs.path}: {error}",
            "write it as pip understands it, such as >=3.10",
        ) from error
    lists_nothing = needs.kind.is_list and not needs.requirements and not needs.locked
    nothing_to_install = needs.kind is DependencyKind.NONE or lists_nothing
    if nothing_to_install and base is not None:
        builder.say(f"running with {base.description}")
        return Ready(base.path, None)
    heavy = base is not None and bool(base.frameworks)
    uv = None
    if base is None or needs.uv or not heavy:
        # uv does not count packages that come through system-site-packages as installed: beside a framework it would
        # fetch gigabytes a second time. pip counts them.
        uv = find_uv(builder, base or _first_with_pip(asked))
        if uv is None and (base is None or needs.uv):
            if base is None and not needs.uv:
                raise _no_python(needs, asked)
            raise AgentError(
                "setup-failed",
                f"{needs.path} needs uv: it is not on the machine and could not be installed",
                "install uv on the machine: https://docs.astral.sh/uv/",
            )
    if uv is not None and needs.kind.is_synced_by_uv:
        _sync_project(needs, base, uv, builder)
    else:
        _make(base, uv, needs, builder)
        if uv is not None and needs.kind is DependencyKind.PEP723 and not nothing_to_install:
            _sync_script(needs, uv, builder)
        elif not nothing_to_install:
            _install(needs, base, uv, builder)
    return Ready(str(builder.python), builder.python.parent)


def _first_with_pip(asked: Sequence[Interpreter]) -> Interpreter | None:
    return next((found for found in asked if found.pip), None)


def _install(needs: Dependencies, base: Interpreter | None, uv: str | None, builder: VenvBuilder) -> None:
    """As ``pip install`` does it. Where uv cannot, pip is asked: its word counts."""
    folder = builder.folder(needs)
    settings = {**installer_settings.settings_of_pip(_pip_configuration(builder, base)), **builder.variables}
    arguments = _what_to_install(needs, builder)
    phase = f"installing {_described(needs)}"
    has_pip = base is not None and base.pip
    if uv is not None and not (has_pip and _is_for_pip(needs, folder, settings)):
        argv = [uv, "pip", "install", "--python", str(builder.python), *arguments]
        try:
            builder.run(phase + " with uv", argv, installer_settings.for_uv(settings), folder)
        except AgentError:
            if not has_pip:
                raise
            builder.say("uv could not install it; trying pip")
        else:
            return
    argv = [str(builder.python), "-m", "pip", "install", *arguments]
    builder.run(phase + " with pip", argv, installer_settings.for_pip(builder.variables), folder)


def _is_for_pip(needs: Dependencies, folder: Path, settings: Mapping[str, str]) -> bool:
    if installer_settings.needs_pip(settings):
        return True
    if needs.kind is not DependencyKind.REQUIREMENTS:
        return False
    return bool(
        installer_settings.options_beyond_uv(
            PurePosixPath(needs.path or "").name, lambda path: _read(folder / path)
        )
    )


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8-sig", errors="replace")
    except OSError:
        return None


def _pip_configuration(builder: VenvBuilder, base: Interpreter | None) -> list[str]:
    """The texts of pip's configuration files, in its own order."""
    env = builder.variables
    home = Path(env.get("HOME", "/"))
    files = [
        Path("/etc/xdg/pip/pip.conf"),
        Path("/etc/pip.conf"),
        home / ".pip" / "pip.conf",
        Path(env.get("XDG_CONFIG_HOME") or home / ".config") / "pip" / "pip.conf",
    ]
    if base is not None and base.nested:
        files.append(Path(base.path).parent.parent / "pip.conf")
    named = env.get("PIP_CONFIG_FILE")
    if named is not None:
        files = [] if named == "/dev/null" else [*files, Path(named)]
    return [text for text in map(_read, files) if text]


def _what_to_install(needs: Dependencies, builder: VenvBuilder) -> list[str]:
    if needs.kind is DependencyKind.REQUIREMENTS:
        return ["-r", PurePosixPath(needs.path or "requirements.txt").name]
    if needs.kind is DependencyKind.PACKAGE:
        # Editable, so that the package finds its data files in the run's copy.
        return ["-e", "."]
    listing = builder.target.with_name("requirements.txt")
    listing.write_text("".join(line + "\n" for line in needs.requirements), encoding="utf-8")
    return ["-r", str(listing)]


def _described(needs: Dependencies) -> str:
    if needs.kind is DependencyKind.REQUIREMENTS:
        return needs.path or "requirements.txt"
    if needs.kind is DependencyKind.PACKAGE:
        return f"the package of {needs.path}"
    count = len(needs.requirements)
    text = "{} requirement{}".format(count, "" if count == 1 else "s")
    return text + (
        " of the script" if needs.kind is DependencyKind.PEP723 else " of " + (needs.path or "pyproject.toml")
    )


def _make(base: Interpreter | None, uv: str | None, needs: Dependencies, builder: VenvBuilder) -> None:
    if base is None:
        # uv fetches a Python that fits.
        asked = ["--python", needs.requires_python] if needs.requires_python else []
        argv = [str(uv), "venv", *asked, str(builder.target)]
        builder.run(
            "getting Python {}".format(needs.requires_python or ""), argv, builder.variables, builder.work
        )
        return
    builder.say(f"creating an environment with {base.description}")
    if uv is not None:
        argv = [uv, "venv", "--quiet", "--system-site-packages", "--python", base.path, str(builder.target)]
    elif base.venv and (base.pip or base.ensurepip):
        # The base's own pip is seen through system-site-packages, which saves three seconds.
        bare = ["--without-pip"] if base.pip else []
        argv = [base.path, "-m", "venv", "--system-site-packages", *bare, str(builder.target)]
    else:
        raise AgentError(
            "setup-failed",
            f"{base.path} can install nothing: it has neither pip nor venv, and there is no uv",
            "sudo apt-get install python3-venv python3-pip, or use an image that has them",
        )
    builder.run("creating the environment", argv, builder.variables, builder.work)
    if base.nested:
        # system-site-packages means the base's base: a virtual environment's own packages are shown by hand.
        for folder in (builder.target / "lib").glob("python*/site-packages"):
            text = "".join(path + "\n" for path in base.site)
            (folder / "_runctl_base.pth").write_text(text, encoding="utf-8")


def _sync_project(needs: Dependencies, base: Interpreter | None, uv: str, builder: VenvBuilder) -> None:
    """As ``uv run`` does it in the project's folder: uv finds the workspace, the lock, sources and indexes itself."""
    if base is not None:
        _make(base, uv, needs, builder)
    pinned = ["--python", base.path] if base is not None else []
    env = {**builder.variables, "UV_PROJECT_ENVIRONMENT": str(builder.target)}
    _sync(needs, [uv, "sync", *pinned], env, "uv lock", builder)


def _sync_script(needs: Dependencies, uv: str, builder: VenvBuilder) -> None:
    """As ``uv run`` does it for a script with a header."""
    name = PurePosixPath(needs.path or "").name
    env = {**builder.variables, "VIRTUAL_ENV": str(builder.target)}
    _sync(
        needs,
        [uv, "sync", "--active", "--script", name],
        env,
        f"uv lock --script {needs.path}",
        builder,
    )


def _sync(
    needs: Dependencies, argv: Sequence[str], env: Mapping[str, str], to_lock: str, builder: VenvBuilder
) -> None:
    folder = builder.folder(needs)
    if needs.locked and "UV_FROZEN" not in env:
        argv = [*argv, "--locked"]
        env = _with_indexes_of_lock(needs, env, builder)
    what = needs.path if needs.locked else _described(needs)
    try:
        builder.run(f"installing {what} with uv", argv, env, folder)
    except AgentError as error:
        if STALE_LOCK not in error.message:
            raise
        raise AgentError(
            error.code,
            f"{needs.path} is out of date: it does not agree with what it locks",
            f"{to_lock}, and run again",
        ) from error


def _with_indexes_of_lock(
    needs: Dependencies, env: Mapping[str, str], builder: VenvBuilder
) -> Mapping[str, str]:
    path = builder.work / PurePosixPath(needs.path or "")
    lock = path.with_name(path.name + ".lock") if needs.kind is DependencyKind.PEP723 else path
    settings = [folder / name for folder in (builder.folder(needs), lock.parent) for name in _SETTINGS_OF_UV]
    settings += [path] if needs.kind is DependencyKind.PEP723 else []
    texts = [_read(file) or "" for file in settings]
    known = "\n".join([*texts, *(value for name, value in env.items() if name.startswith("UV_"))])
    indexes = installer_settings.indexes_of_lock(_read(lock) or "", known)
    if not indexes:
        return env
    return {**env, "UV_INDEX": " ".join([env.get("UV_INDEX", ""), *indexes]).strip()}


def find_uv(builder: VenvBuilder, base: Interpreter | None) -> str | None:
    """The machine's uv, or one of our own, or ``None``."""
    search = [builder.env.get("PATH", ""), *map(str, _homes_of_uv(builder))]
    found = shutil.which("uv", path=":".join(search))
    if found is not None and _is_recent(found):
        return found
    own = builder.tools / "bin" / "uv"
    if own.is_file():
        return str(own)
    fetched = _fetch_uv(base, builder) if base is not None and base.pip else None
    return fetched or found


def provide_uv(builder: VenvBuilder) -> None:
    """The script can call ``uv``, if it can be had at all: the script itself may know a way without."""
    base, asked = interpreter.choose(builder.env, None)
    find_uv(builder, base or _first_with_pip(asked))


def folders_of_uv(builder: VenvBuilder) -> list[str]:
    """Where ``uv`` is, besides the login shell's own PATH: to be looked at after it."""
    folders = [builder.tools / "bin", *_homes_of_uv(builder)]
    return [str(folder) for folder in folders if (folder / "uv").is_file()]


def _homes_of_uv(builder: VenvBuilder) -> list[Path]:
    """Where its own installer, and cargo, put it."""
    home = Path(builder.env.get("HOME") or "/nonexistent")
    return [home / ".local" / "bin", home / ".cargo" / "bin"]


def _is_recent(uv: str) -> bool:
    try:
        done = subprocess.run(
            [uv, "--version"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, timeout=20, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    match = re.match(rb"uv (\d+)\.(\d+)", done.stdout)
    return match is not None and (int(match.group(1)), int(match.group(2))) >= OLDEST_UV


def _fetch_uv(base: Interpreter, builder: VenvBuilder) -> str | None:
    own = builder.tools
    own.parent.mkdir(parents=True, exist_ok=True)
    with durable.locked(own.parent / "lock"):
        if (own / "bin" / "uv").is_file():
            return str(own / "bin" / "uv")
        partial = own.with_name("uv.partial")
        shutil.rmtree(partial, ignore_errors=True)
        listing = own.with_name("uv.txt")
        hashes = "".join(" --hash=sha256:" + digest for digest in UV_WHEELS)
        listing.write_text(f"uv=={UV_VERSION}{hashes}\n", encoding="utf-8")
        argv = [
            base.path,
            "-m",
            "pip",
            "install",
            "--quiet",
            "--retries",
            "1",
            "--no-deps",
            "--require-hashes",
        ]
        argv += ["--target", str(partial), "--only-binary", ":all:", "-r", str(listing)]
        try:
            builder.run(
                f"installing uv {UV_VERSION}",
                argv,
                installer_settings.for_pip(builder.variables),
                builder.work,
            )
        except AgentError:
            builder.say("uv could not be installed; going on with pip")
            return None
        partial.replace(own)
    return str(own / "bin" / "uv")


def _no_python(needs: Dependencies, asked: Sequence[Interpreter]) -> AgentError:
    found = ", ".join(found.description for found in asked) or "none"
    return AgentError(
        "setup-failed",
        "no Python on the machine satisfies {}; found: {}".format(
            needs.requires_python or "the script", found
        ),
        "install one, or install uv, which fetches the right one by itself",
    )
