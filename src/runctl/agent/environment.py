"""The run's own Python environment: sees the image's packages, has what the project asks for, pollutes nothing."""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Callable, Dict, List, Mapping, Optional, Sequence

from runctl.agent import durable, interpreter
from runctl.agent.errors import AgentError
from runctl.agent.interpreter import Interpreter
from runctl.agent.spec import Dependencies

RunStep = Callable[[str, Sequence[str], Mapping[str, str], Path], None]
"""Runs one command of the set-up (phase in words, arguments, variables, folder), its output in the run's log.
Raises `AgentError` (``setup-failed``) when it fails."""


@dataclass(frozen=True)
class Ready:
    """What runs the script."""

    python: str
    bin_folder: Optional[Path]
    """The environment's programs; ``None`` when the machine's own Python runs the script."""


@dataclass(frozen=True)
class Workshop:
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

    @property
    def variables(self) -> Dict[str, str]:
        """For installers: caches of our own, no questions, no advice about updates."""
        return {
            **self.env,
            "UV_CACHE_DIR": str(self.state / "cache" / "uv"),
            "PIP_CACHE_DIR": str(self.state / "cache" / "pip"),
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
            "PIP_NO_INPUT": "1",
            "PIP_REQUIRE_VIRTUALENV": "0",
            "PYTHONUNBUFFERED": "1",
            "UV_NO_PROGRESS": "1",
            "UV_LINK_MODE": "copy",
            # pip and the rest of the machine trust what its administrator told it to; by default uv does not. The
            # second name is that of older versions.
            "UV_SYSTEM_CERTS": "true",
            "UV_NATIVE_TLS": "true",
        }


def prepare(needs: Dependencies, shop: Workshop) -> Ready:
    """What the project needs is installed. Raises `AgentError` (``setup-failed``)."""
    base, asked = interpreter.choose(shop.env, needs.requires_python)
    nothing_to_install = needs.kind == "none" or (needs.kind == "pep723" and not needs.requirements)
    if nothing_to_install:
        if base is None:
            raise _no_python(needs, asked)
        shop.say("running with {}".format(base.words))
        return Ready(base.path, None)
    uv = _uv(
        shop,
        base or (asked[0] if asked else None),
        required=base is None or needs.kind == "uv.lock",
        heavy=base is not None and bool(base.frameworks),
    )
    if base is None and uv is None:
        raise _no_python(needs, asked)
    if needs.kind == "uv.lock":
        return _sync(needs, base, str(uv), shop)
    _make(base, uv, needs, shop)
    python = shop.target / "bin" / "python"
    arguments = _what_to_install(needs, shop)
    phase = "installing {}".format(_in_words(needs))
    if uv is not None:
        command = [uv, "pip", "install", "--python", str(python), *arguments]
        shop.run(phase + " with uv", command, shop.variables, shop.work)
    else:
        shop.run(
            phase + " with pip", [str(python), "-m", "pip", "install", *arguments], shop.variables, shop.work
        )
    return Ready(str(python), python.parent)


def _what_to_install(needs: Dependencies, shop: Workshop) -> List[str]:
    if needs.kind == "requirements":
        return ["-r", needs.path or "requirements.txt"]
    if needs.kind == "pyproject":
        project = shop.work / PurePosixPath(needs.path or "pyproject.toml").parent
        if has_build_system((project / "pyproject.toml").read_text(encoding="utf-8")):
            # Editable, so that the package finds its data files in the run's copy.
            return ["-e", str(project)]
    listing = shop.target.with_name("requirements.txt")
    listing.write_text("".join(line + "\n" for line in needs.requirements), encoding="utf-8")
    return ["-r", str(listing)]


def has_build_system(pyproject: str) -> bool:
    """Whether the project can be installed itself (PEP 517). Python 3.9 has no TOML reader; a header is a line."""
    return re.search(r"^\s*\[\s*build-system\s*\]", pyproject, re.MULTILINE) is not None


def _in_words(needs: Dependencies) -> str:
    count = len(needs.requirements)
    if needs.kind == "requirements":
        return needs.path or "requirements.txt"
    words = "{} requirement{}".format(count, "" if count == 1 else "s")
    return words + (" of the script" if needs.kind == "pep723" else " of " + (needs.path or "pyproject.toml"))


def _make(base: Optional[Interpreter], uv: Optional[str], needs: Dependencies, shop: Workshop) -> None:
    if base is None:
        # uv fetches a Python that fits.
        argv = [str(uv), "venv", "--python", str(needs.requires_python), str(shop.target)]
        shop.run("getting Python {}".format(needs.requires_python), argv, shop.variables, shop.work)
        return
    shop.say("making an environment on {}".format(base.words))
    if uv is not None:
        argv = [uv, "venv", "--quiet", "--system-site-packages", "--python", base.path, str(shop.target)]
    elif base.venv and (base.pip or base.ensurepip):
        # The base's own pip is seen through system-site-packages, which saves three seconds.
        bare = ["--without-pip"] if base.pip else []
        argv = [base.path, "-m", "venv", "--system-site-packages", *bare, str(shop.target)]
    else:
        raise AgentError(
            "setup-failed",
            "{} can install nothing: it has neither pip nor venv, and there is no uv".format(base.path),
            "sudo apt-get install python3-venv python3-pip, or use an image that has them",
        )
    shop.run("making the environment", argv, shop.variables, shop.work)
    if base.nested:
        # system-site-packages means the base's base: a virtual environment's own packages are shown by hand.
        for folder in (shop.target / "lib").glob("python*/site-packages"):
            text = "".join(path + "\n" for path in base.site)
            (folder / "_runctl_base.pth").write_text(text, encoding="utf-8")


def _sync(needs: Dependencies, base: Optional[Interpreter], uv: str, shop: Workshop) -> Ready:
    if base is not None:
        _make(base, uv, needs, shop)
    project = shop.work / PurePosixPath(needs.path or "uv.lock").parent
    env = {**shop.variables, "UV_PROJECT_ENVIRONMENT": str(shop.target)}
    pinned = ["--python", base.path] if base is not None else []
    argv = [uv, "sync", "--frozen", "--no-dev", "--no-progress", *pinned]
    shop.run("installing {} with uv".format(needs.path or "uv.lock"), argv, env, project)
    python = shop.target / "bin" / "python"
    return Ready(str(python), python.parent)


def _uv(shop: Workshop, base: Optional[Interpreter], *, required: bool, heavy: bool) -> Optional[str]:
    """The machine's uv, or one of our own, or ``None`` where pip does (better).

    uv does not count packages that come through system-site-packages as installed: beside a framework it would
    fetch gigabytes a second time. pip counts them.
    """
    if heavy and not required:
        return None
    own = shop.state / "tools" / "uv"
    places = [
        "{}/.local/bin".format(shop.env.get("HOME", "")),
        "{}/.cargo/bin".format(shop.env.get("HOME", "")),
    ]
    search = ":".join([shop.env.get("PATH", ""), *places, str(own / "bin")])
    found = shutil.which("uv", path=search)
    if found is not None:
        return found
    if base is not None and base.pip:
        installed = _fetch_uv(own, base, shop)
        if installed is not None:
            return installed
    if required:
        raise AgentError(
            "setup-failed",
            "this needs uv: it is not on the machine and could not be installed",
            "install uv on the machine: https://docs.astral.sh/uv/",
        )
    return None


def _fetch_uv(own: Path, base: Interpreter, shop: Workshop) -> Optional[str]:
    own.parent.mkdir(parents=True, exist_ok=True)
    with durable.locked(own.parent / "lock"):
        if (own / "bin" / "uv").is_file():
            return str(own / "bin" / "uv")
        partial = own.with_name("uv.partial")
        shutil.rmtree(partial, ignore_errors=True)
        command = [
            base.path,
            "-m",
            "pip",
            "install",
            "--quiet",
            "--retries",
            "1",
            "--target",
            str(partial),
            "--only-binary",
            ":all:",
            "uv",
        ]
        try:
            shop.run("installing uv", command, shop.variables, shop.work)
        except AgentError:
            shop.say("uv could not be installed; going on with pip")
            return None
        partial.replace(own)
    return str(own / "bin" / "uv")


def _no_python(needs: Dependencies, asked: Sequence[Interpreter]) -> AgentError:
    found = ", ".join(one.words for one in asked) or "none"
    return AgentError(
        "setup-failed",
        "no Python on the machine satisfies {}; found: {}".format(
            needs.requires_python or "the script", found
        ),
        "install one, or install uv, which fetches the right one by itself",
    )
