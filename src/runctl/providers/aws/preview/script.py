"""A shell script of ``aws`` commands: what a call is there, and ids that only the script's run knows. Pure.

Sources: "Quotation marks and literals", "Load a parameter from a file" in the AWS CLI's user guide; the help of
``aws ec2 run-instances`` for its ``--count`` and ``--user-data``.
"""

from __future__ import annotations

import base64
import json
import re
import shlex
import textwrap
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

PROGRAMS = {"s3": "s3api"}
"""What the AWS CLI calls a service, where it is not botocore's name."""
_LEFT_OUT = {"RunInstances": frozenset({"MinCount", "MaxCount"})}
"""Parameters that are another option there."""
_LINE = 100
"""Characters after which a command goes on in another line."""


def option(name: str) -> str:
    """``--volume-ids`` of ``VolumeIds``."""
    from botocore import xform_name

    return f"--{xform_name(name, '-')}"


class Script:
    """The script as far as it goes. Ids of what it makes are placeholders, each with a variable of the shell."""

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._variables: dict[str, str] = {}
        """By placeholder."""
        self._comments: set[str] = set()

    def placeholder(self, variable: str, prefix: str) -> str:
        """An id that no resource has, such as ``i-00000000000000001``; ``variable`` stands for it in commands."""
        taken = set(self._variables.values())
        number = next(n for n in range(1, len(taken) + 2) if _numbered(variable, n) not in taken)
        created = f"{prefix}{len(self._variables) + 1:017x}"
        self._variables[created] = _numbered(variable, number)
        return created

    def mentions_placeholder(self, value: object) -> bool:
        """Whether it is about something that the script has yet to make."""
        text = json.dumps(value, default=str)
        return any(created in text for created in self._variables)

    def comment(self, text: str) -> None:
        """Said once, however often it holds."""
        if text not in self._comments:
            self._comments.add(text)
            for created, variable in self._variables.items():
                text = text.replace(created, f"${variable}")
            wrapped = (part for line in text.splitlines() for part in textwrap.wrap(line, _LINE) or [""])
            self._lines += ["", *(f"# {line}" for line in wrapped)]

    def call(
        self,
        service: str,
        operation: str,
        params: Mapping[str, Any],
        *,
        region: str | None = None,
        keeps: tuple[Sequence[str], str] | None = None,
        unless: str | None = None,
    ) -> None:
        """The command that makes this call. ``keeps`` has placeholders, and the query that finds their ids in the
        answer. ``unless`` is a command that ends well where it has been made before."""
        given = dict(params)
        data = given.get("UserData")
        if operation == "RunInstances" and data is not None:
            given["UserData"] = f"fileb://{self._file('USER_DATA', data)}"
        argv = [
            "aws",
            PROGRAMS.get(service, service),
            option(operation)[2:],
            *(["--region", region] if region else []),
            *(part for name, value in given.items() for part in _argument(operation, name, value)),
        ]
        if operation == "RunInstances":
            argv += ["--count", str(params.get("MinCount", 1))]
        if keeps is None:
            self._add(argv, unless=unless)
            return
        created, query = keeps
        argv += ["--query", query, "--output", "text"]
        names = [self._variables[each] for each in created]
        if len(names) == 1:
            self._add(argv, variable=names[0])
            return
        self._add(argv, variable=f"{names[0]}S")
        # A shell has lists for its arguments only; one that is too short ends the script (set -u).
        self._lines.append(f"set -- ${names[0]}S")
        self._lines += [f"{name}=${{{number}}}" for number, name in enumerate(names, start=1)]

    def run(self, argv: Sequence[str]) -> None:
        """Another command."""
        self._add(argv)

    def line(self, text: str) -> None:
        """A line as it is; placeholders in it must stand between double quotes."""
        for created, variable in self._variables.items():
            text = text.replace(created, f"${variable}")
        self._lines += ["", text]

    def text(self, about: str, exports: Mapping[str, str]) -> str:
        """The whole script."""
        head = ["#!/bin/sh", *(f"# {line}".rstrip() for line in about.splitlines()), "set -eu"]
        head += [f"export {name}={shlex.quote(value)}" for name, value in exports.items()]
        return "\n".join([*head, *self._lines]) + "\n"

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to do."""
        return not self._lines

    def _file(self, variable: str, content: str | bytes) -> str:
        """A temporary file of the script, made by it; a placeholder for its path."""
        created = self.placeholder(variable, "/runctl-file-")
        named = self._variables[created]
        packed = base64.encodebytes(content.encode() if isinstance(content, str) else content).decode()
        self._lines += ["", f"{named}=$(mktemp)", f"base64 -d > \"${named}\" <<'END'", *packed.split(), "END"]
        return created

    def _add(self, argv: Sequence[str], *, variable: str | None = None, unless: str | None = None) -> None:
        options: list[str] = []
        for argument in argv:
            written = self._quoted(argument)
            if options and not argument.startswith("--"):
                options[-1] += f" {written}"
            else:
                options.append(written)
        rows: list[str] = []
        for each in options:
            if rows and len(rows[-1]) + len(each) < _LINE:
                rows[-1] += f" {each}"
            else:
                rows.append(each)
        command = " \\\n    ".join(rows)
        if unless is not None:
            command = f"{unless} > /dev/null 2>&1 ||\n    {command}"
        self._lines += ["", f"{variable}=$({command})" if variable else command]

    def _quoted(self, argument: str) -> str:
        """One word of a shell, whatever is in it; placeholders are variables."""
        if not any(created in argument for created in self._variables):
            return shlex.quote(argument)
        pattern = "|".join(map(re.escape, self._variables))
        parts = re.split(f"({pattern})", argument)
        return "".join(
            f'"${self._variables[part]}"' if part in self._variables else shlex.quote(part)
            for part in parts
            if part
        )


def _numbered(variable: str, number: int) -> str:
    return variable if number == 1 else f"{variable}_{number}"


def _argument(operation: str, name: str, value: object) -> list[str]:
    if name in _LEFT_OUT.get(operation, ()):
        return []
    flag = option(name)
    if isinstance(value, bool):
        return [flag if value else f"--no-{flag[2:]}"]
    if isinstance(value, list | tuple) and all(isinstance(each, str | int) for each in value):
        return [flag, *(str(each) for each in value)]
    if isinstance(value, Mapping | list | tuple):
        return [flag, json.dumps(value, default=_plain, ensure_ascii=False)]
    text = _plain(value)
    return [f"{flag}={text}"] if text.startswith("-") else [flag, text]


def _plain(value: object) -> str:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    return str(value)
