"""User data as cloud-init reads it, in steps that a machine carries out (`cloud_init`): all pure.

Of cloud-init's formats there are scripts, cloud-config with the modules of `_MODULES`, and both in one MIME message.
Whatever else is asked for, in whatever form, is a problem that the boot ends with, as nobody should take it for done.
"""

from __future__ import annotations

import email
import email.message
import gzip
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import yaml

Steps = list[dict[str, Any]]
SHELL_SCRIPT, CLOUD_CONFIG = "text/x-shellscript", "text/cloud-config"


class NotSupported(Exception):
    """What of the user data the sandbox cannot do."""


def steps_of(data: bytes | None, login_user: str) -> dict[str, Any]:
    """What is done at every boot (``boot``), before the first login (``early``) and after it (``final``), and the
    ``problem`` for which the boot counts as failed."""
    found: dict[str, Any] = {"boot": [], "early": [], "final": [], "problem": ""}
    try:
        for kind, content in _parts(data or b""):
            if kind == SHELL_SCRIPT:
                found["final"].append({"do": "script", "text": content})
            elif kind == CLOUD_CONFIG:
                for phase, steps in _config_steps(content, login_user).items():
                    found[phase] += steps
    except NotSupported as error:
        found["problem"] = f"user data: {error}"
    except (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError) as error:
        found["problem"] = f"user data: not in a form that cloud-init reads: {error!r}"
    return found


def unpacked(data: bytes) -> bytes:
    """As it was before the user's gzip; what only looks like it stays as it is, as cloud-init has it."""
    if not data.startswith(b"\x1f\x8b"):
        return data
    try:
        return gzip.decompress(data)
    except (OSError, EOFError, zlib.error):
        return data


def _parts(data: bytes) -> Iterator[tuple[str, str]]:
    # A script may have bytes that are no text.
    text = data.decode(errors="surrogateescape")
    # cloud-init warns of what it does not know, and goes on.
    if text.startswith("#!"):
        yield SHELL_SCRIPT, text
    elif text.startswith("#cloud-config"):
        yield CLOUD_CONFIG, text
    elif text.lower().startswith(("content-type:", "mime-version:")):
        for part in email.message_from_bytes(data).walk():
            if not part.is_multipart():
                yield _part(part)


def _part(part: email.message.Message) -> tuple[str, str]:
    content = part.get_payload(decode=True)
    text = content.decode(errors="surrogateescape") if isinstance(content, bytes) else ""
    kind = part.get_content_type()
    if kind == "text/plain":
        kind = (
            SHELL_SCRIPT
            if text.startswith("#!")
            else CLOUD_CONFIG
            if text.startswith("#cloud-config")
            else kind
        )
    if kind not in {SHELL_SCRIPT, CLOUD_CONFIG}:
        raise NotSupported(f"a part of the type {kind} is not supported in the sandbox")
    return kind, text


def _config_steps(text: str, login_user: str) -> dict[str, Steps]:
    try:
        config = yaml.safe_load(text) or {}
    except yaml.YAMLError as error:
        raise NotSupported(f"the cloud-config is not YAML: {error}") from None
    if not isinstance(config, dict):
        raise NotSupported("the cloud-config is not a mapping")
    if unknown := sorted(str(name) for name in config if name not in {known for known, _, _ in _MODULES}):
        raise NotSupported(f"cloud-config's {', '.join(unknown)} is not supported in the sandbox")
    steps: dict[str, Steps] = {"boot": [], "early": [], "final": []}
    for name, phase, make in _MODULES:
        if name in config:
            steps[phase] += make(config[name], login_user)
    return steps


def _commands(value: Any, _user: str) -> Steps:
    found = [each for each in _entries(value, "commands") if each is not None]
    if strange := [each for each in found if not isinstance(each, (list, str))]:
        # Such as what YAML makes of `echo a: b`.
        raise NotSupported(f"a command is neither a text nor a list: {strange[0]!r}")
    return [
        {"do": "run", "argv": [str(word) for word in each] if isinstance(each, list) else ["sh", "-c", each]}
        for each in found
    ]


_FILE_KEYS = {"path", "content", "permissions", "owner", "append", "encoding", "defer"}


def _files(value: Any, _user: str) -> Steps:
    return [_file(each) for each in _entries(value, "write_files") if not _is_deferred(each)]


def _deferred_files(value: Any, _user: str) -> Steps:
    return [_file(each) for each in _entries(value, "write_files") if _is_deferred(each)]


def _is_deferred(entry: Any) -> bool:
    """Whether it is written when users and their homes are there."""
    _known(entry, _FILE_KEYS, "write_files")
    return bool(entry.get("defer", False))


def _file(entry: dict[str, Any]) -> dict[str, Any]:
    encoding = str(entry.get("encoding") or "text/plain")
    if encoding not in {"text/plain", "b64", "base64"}:
        raise NotSupported(f"write_files' encoding {encoding} is not supported in the sandbox")
    content = entry.get("content") or ""
    if isinstance(content, bytes):
        raise NotSupported("write_files' content of the type binary is not supported in the sandbox")
    return {
        "do": "file",
        "path": _text(entry, "path", "write_files"),
        "content": str(content),
        "base64": encoding != "text/plain",
        "mode": _mode(entry.get("permissions")),
        "owner": str(entry.get("owner") or "root:root"),
        "append": bool(entry.get("append", False)),
    }


def _mode(permissions: Any) -> int:
    """A number is one: YAML has read 0644 as octal."""
    try:
        mode = permissions if isinstance(permissions, int) else int(str(permissions or "0644"), 8)
    except ValueError:
        mode = -1
    if not 0 <= mode <= 0o7777:
        raise NotSupported(f"write_files' permissions {permissions!r} are not a file's mode")
    return mode


_USER_KEYS = {"name", "shell", "sudo", "ssh_authorized_keys", "groups", "lock_passwd", "gecos", "homedir"}


def _users(value: Any, _user: str) -> Steps:
    steps = []
    for each in _entries(value, "users"):
        # The image's own, which is there.
        if each == "default":
            continue
        entry = {"name": each} if isinstance(each, str) else each
        _known(entry, _USER_KEYS, "users")
        groups = entry.get("groups") or []
        rules = entry.get("sudo") or []
        steps.append(
            {
                "do": "user",
                "name": _text(entry, "name", "users"),
                "shell": str(entry.get("shell") or "/bin/sh"),
                "groups": [word.strip() for word in groups.split(",")]
                if isinstance(groups, str)
                else [str(word) for word in _entries(groups, "users' groups")],
                "sudo": [rules]
                if isinstance(rules, str)
                else [str(rule) for rule in _entries(rules, "users' sudo")],
                "keys": _keys_of(entry.get("ssh_authorized_keys")),
            }
        )
    return steps


def _keys(value: Any, user: str) -> Steps:
    return [{"do": "user", "name": user, "shell": "", "groups": [], "sudo": [], "keys": _keys_of(value)}]


def _keys_of(value: Any) -> list[str]:
    keys = [value] if isinstance(value, str) else _entries(value, "ssh_authorized_keys")
    return [str(key).strip() for key in keys]


def _nothing(_value: Any, _user: str) -> Steps:
    return []


def _entries(value: Any, where: str) -> list[Any]:
    if value is not None and not isinstance(value, list):
        raise NotSupported(f"{where} must be a list")
    return value or []


def _text(entry: dict[str, Any], key: str, where: str) -> str:
    value = entry.get(key)
    if not isinstance(value, str) or not value:
        raise NotSupported(f"{where} has an entry without a {key}")
    return value


def _known(entry: Any, keys: set[str], where: str) -> None:
    if not isinstance(entry, dict) or not all(isinstance(key, str) for key in entry):
        raise NotSupported(f"{where} has an entry that is not a mapping")
    if unknown := sorted(set(entry) - keys):
        raise NotSupported(f"{where}' {', '.join(unknown)} is not supported in the sandbox")


_MODULES: tuple[tuple[str, str, Callable[[Any, str], Steps]], ...] = (
    ("bootcmd", "boot", _commands),
    ("write_files", "early", _files),
    ("users", "early", _users),
    ("ssh_authorized_keys", "early", _keys),
    ("write_files", "final", _deferred_files),
    ("runcmd", "final", _commands),
    # Nothing of the machine's system comes from outside, so that there is nothing to bring up to date.
    ("package_update", "early", _nothing),
    ("package_upgrade", "early", _nothing),
)
"""Each with its phase, in the order in which cloud-init carries them out."""
