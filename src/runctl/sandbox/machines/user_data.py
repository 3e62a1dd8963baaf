"""User data as cloud-init reads it, in steps that a machine carries out (`cloud_init`): all pure.

Of cloud-init's formats there are scripts, cloud-config with the modules of `_MODULES`, and both in one MIME message.
Whatever else is asked for is a problem that the boot ends with, as nobody should take it for done.
"""

from __future__ import annotations

import email
import email.message
from collections.abc import Callable, Iterator, Mapping
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
    return found


def _parts(data: bytes) -> Iterator[tuple[str, str]]:
    text = data.decode(errors="replace")
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
    text = content.decode(errors="replace") if isinstance(content, bytes) else ""
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
    steps: dict[str, Steps] = {"boot": [], "early": [], "final": []}
    for name, (phase, make) in _MODULES.items():
        if name in config:
            steps[phase] += make(config.pop(name), login_user)
    if config:
        raise NotSupported(
            f"cloud-config's {', '.join(sorted(map(str, config)))} is not supported in the sandbox"
        )
    return steps


def _commands(value: Any, _user: str) -> Steps:
    if not isinstance(value, list):
        raise NotSupported("commands must be a list")
    return [
        {"do": "run", "argv": [str(word) for word in each]}
        if isinstance(each, list)
        else {"do": "run", "argv": ["sh", "-c", str(each)]}
        for each in value
        if each is not None
    ]


_FILE_KEYS = {"path", "content", "permissions", "owner", "append", "encoding", "defer"}


def _files(value: Any, _user: str) -> Steps:
    steps = []
    for each in value or ():
        _known(each, _FILE_KEYS, "write_files")
        encoding = str(each.get("encoding", "text/plain"))
        if encoding not in {"text/plain", "b64", "base64"}:
            raise NotSupported(f"write_files' encoding {encoding} is not supported in the sandbox")
        steps.append(
            {
                "do": "file",
                "path": str(each["path"]),
                "content": str(each.get("content", "")),
                "base64": encoding != "text/plain",
                "mode": int(str(each.get("permissions", "0644")), 8),
                "owner": str(each.get("owner", "root:root")),
                "append": bool(each.get("append", False)),
            }
        )
    return steps


_USER_KEYS = {"name", "shell", "sudo", "ssh_authorized_keys", "groups", "lock_passwd", "gecos", "homedir"}


def _users(value: Any, _user: str) -> Steps:
    steps = []
    for each in value or ():
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
                "name": str(entry["name"]),
                "shell": str(entry.get("shell", "/bin/sh")),
                "groups": groups.replace(" ", "").split(",") if isinstance(groups, str) else list(groups),
                "sudo": [rules] if isinstance(rules, str) else list(rules),
                "keys": _keys_of(entry.get("ssh_authorized_keys")),
            }
        )
    return steps


def _keys(value: Any, user: str) -> Steps:
    return [{"do": "user", "name": user, "shell": "", "groups": [], "sudo": [], "keys": _keys_of(value)}]


def _keys_of(value: Any) -> list[str]:
    return [str(key).strip() for key in ([value] if isinstance(value, str) else value or ())]


def _nothing(_value: Any, _user: str) -> Steps:
    return []


def _known(entry: Any, keys: set[str], where: str) -> None:
    if not isinstance(entry, dict) or not all(isinstance(key, str) for key in entry):
        raise NotSupported(f"{where} has an entry that is not a mapping")
    if unknown := sorted(set(entry) - keys):
        raise NotSupported(f"{where}' {', '.join(unknown)} is not supported in the sandbox")


_MODULES: Mapping[str, tuple[str, Callable[[Any, str], Steps]]] = {
    "bootcmd": ("boot", _commands),
    "write_files": ("early", _files),
    "users": ("early", _users),
    "ssh_authorized_keys": ("early", _keys),
    "runcmd": ("final", _commands),
    # Nothing of the machine's system comes from outside, so that there is nothing to bring up to date.
    "package_update": ("early", _nothing),
    "package_upgrade": ("early", _nothing),
}
"""By name, in the order in which cloud-init carries them out, with their phase."""
