"""What runs a script."""

from __future__ import annotations

import pytest

from runctl.agent.starter import shebang, starter


@pytest.mark.parametrize(
    ("shown", "interpreter", "head", "executable", "argv"),
    [
        ("a/train.py", (), b"", False, ["py3", "-u", "a/train.py"]),
        ("train.py", (), b"#!/usr/bin/env ruby\n", True, ["py3", "-u", "train.py"]),
        ("train.py", ("pypy3", "-O"), b"", False, ["pypy3", "-O", "train.py"]),
        ("go.sh", (), b"", False, ["bash", "go.sh"]),
        ("go.sh", (), b"#!/bin/dash\n", False, ["/bin/dash", "go.sh"]),
        ("fit.R", (), b"", False, ["Rscript", "fit.R"]),
        ("fit.jl", (), b"", False, ["julia", "fit.jl"]),
        ("run", (), b"#!/usr/bin/env python3\nx", False, ["/usr/bin/env", "python3", "run"]),
        (
            "run",
            (),
            b"#!/usr/bin/env -S uv run --script\n",
            False,
            ["/usr/bin/env", "uv", "run", "--script", "run"],
        ),
        ("run", (), b"#!/bin/awk -f x\n", False, ["/bin/awk", "-f x", "run"]),
        ("-dash.py", (), b"", False, ["py3", "-u", "./-dash.py"]),
        ("-dash.sh", ("zsh",), b"", False, ["zsh", "./-dash.sh"]),
        ("-tool", (), b"\x7fELF", True, ["./-tool"]),
        ("tool", (), b"\x7fELF", True, ["./tool"]),
        ("bin/tool", (), b"\x7fELF", True, ["bin/tool"]),
        ("notes.txt", (), b"words", False, None),
    ],
)
def test_a_script_runs_by_what_was_asked_its_first_line_or_its_extension(
    shown: str, interpreter: tuple[str, ...], head: bytes, executable: bool, argv: list[str] | None
) -> None:
    assert starter(shown, "py3", interpreter, head, executable=executable) == argv


@pytest.mark.parametrize("head", [b"", b"#!", b"#!\n", b"# !/bin/sh\n", b"x#!/bin/sh\n", b"#!/bin/sh"])
def test_what_is_no_first_line_names_nothing(head: bytes) -> None:
    assert shebang(head) is None
