"""What pip and uv are told by variables, settings and requirements files, and where the two differ: all pure."""

from __future__ import annotations

import configparser
import posixpath
import re
from collections.abc import Iterable, Mapping
from typing import Callable

_SAME = (
    # pip's variable, and those of uv that mean the same, the one to set first.
    ("PIP_INDEX_URL", ("UV_DEFAULT_INDEX", "UV_INDEX_URL")),
    ("PIP_EXTRA_INDEX_URL", ("UV_INDEX", "UV_EXTRA_INDEX_URL")),
    ("PIP_FIND_LINKS", ("UV_FIND_LINKS",)),
    ("PIP_NO_INDEX", ("UV_NO_INDEX",)),
    ("PIP_CONSTRAINT", ("UV_CONSTRAINT",)),
    ("PIP_TRUSTED_HOST", ("UV_INSECURE_HOST",)),
    ("PIP_CERT", ("SSL_CERT_FILE",)),
    ("PIP_PRE", ("UV_PRERELEASE",)),
)
_ONLY_PIP = (
    "PIP_ONLY_BINARY",
    "PIP_NO_BINARY",
    "PIP_PREFER_BINARY",
    "PIP_NO_BUILD_ISOLATION",
    "PIP_USE_FEATURE",
)
_NO = ("", "0", "false", "no", "off", "n", "f")
_UV_READS = {
    "-r",
    "--requirement",
    "-c",
    "--constraint",
    "-e",
    "--editable",
    "-i",
    "--index-url",
    "--extra-index-url",
    "--no-index",
    "-f",
    "--find-links",
    "--no-binary",
    "--only-binary",
    "--require-hashes",
    "--hash",
}
"""Options of requirements files that uv reads as pip does; others it refuses, or passes over with a warning."""
_OPTION = re.compile(r"(?:^|\s)(--?[A-Za-z][A-Za-z-]*)")
_INCLUDE = re.compile(r"^(?:-r|--requirement|-c|--constraint)[ =]*(\S+)")
_REGISTRY = re.compile(r'registry = "(https?://[^"]+)"')
_PYPI = "https://pypi.org/simple"


def for_uv(env: Mapping[str, str]) -> dict[str, str]:
    """Variables with which ``uv pip`` finds what pip would: pip's own ones count where uv's are not set, and so does
    the rule that the best version of all indexes is taken."""
    out = dict(env)
    out.setdefault("UV_INDEX_STRATEGY", "unsafe-best-match")
    for pips, uvs in _SAME:
        value = env.get(pips)
        if value is None or any(name in env for name in uvs):
            continue
        if pips == "PIP_FIND_LINKS":
            value = ",".join(value.split())
        elif pips in ("PIP_NO_INDEX", "PIP_PRE"):
            if value.lower() in _NO:
                continue
            value = "allow" if pips == "PIP_PRE" else "1"
        out[uvs[0]] = value
    return out


def for_pip(env: Mapping[str, str]) -> dict[str, str]:
    """Variables with which pip finds what ``uv pip`` would: uv's own ones count where pip's are not set."""
    out = dict(env)
    for pips, uvs in _SAME:
        value = next((env[name] for name in uvs if name in env), None)
        if value is None or pips in env or pips == "PIP_CERT":
            continue
        if pips == "PIP_PRE":
            if value != "allow":
                continue
            value = "1"
        elif pips == "PIP_FIND_LINKS":
            value = " ".join(value.split(","))
        elif "INDEX_URL" in pips:
            # uv's indexes may have names: name=https://...
            value = " ".join(
                re.sub(r"^[A-Za-z0-9._-]+=(?=https?:)", "", requirement) for requirement in value.split()
            )
        out[pips] = value
    return out


def needs_pip(env: Mapping[str, str]) -> bool:
    """Whether a variable is set that has no equal in uv."""
    return any(env.get(name, "").lower() not in _NO for name in _ONLY_PIP)


def settings_of_pip(texts: Iterable[str]) -> dict[str, str]:
    """pip's configuration files, the ones that count most last, as the variables that say the same. What cannot be
    read as one is passed over here: pip itself complains."""
    found: dict[str, str] = {}
    for text in texts:
        parser = configparser.RawConfigParser()
        try:
            parser.read_string(text)
        except configparser.Error:
            continue
        for section in ("global", "install"):
            if parser.has_section(section):
                for key, value in parser.items(section):
                    found["PIP_" + key.upper().replace("-", "_")] = " ".join(value.split())
    return found


def options_beyond_uv(path: str, read: Callable[[str], str | None]) -> set[str]:
    """Options of a requirements file, and of those that it includes, which only pip honours. ``read`` gives a file's
    text by its path, or ``None``."""
    found: set[str] = set()
    seen: set[str] = set()
    todo = [path]
    while todo:
        file = posixpath.normpath(todo.pop())
        text = None if file in seen else read(file)
        seen.add(file)
        for line in _lines(text or ""):
            included = _INCLUDE.match(line)
            if included is not None:
                todo.append(posixpath.join(posixpath.dirname(file), included.group(1)))
            found.update(option for option in _OPTION.findall(line) if option not in _UV_READS)
    return found


def _lines(text: str) -> Iterable[str]:
    for line in text.replace("\\\n", " ").splitlines():
        yield re.sub(r"(^|\s)#.*$", "", line).strip()


def indexes_of_lock(lock: str, known: str) -> tuple[str, ...]:
    """The registries that a ``uv.lock`` was made with and that neither ``known`` (settings and variables, as text) nor
    uv itself names: they were the author's own settings, and the lock would count as outdated without them."""
    found = dict.fromkeys(_REGISTRY.findall(lock))
    return tuple(url for url in found if url != _PYPI and url.rstrip("/") not in known)
