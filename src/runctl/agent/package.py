"""Builds the one file that is sent to a machine: the same sources give the same bytes."""

from __future__ import annotations

import ast
import functools
import hashlib
import io
import os
import re
import tokenize
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

EPOCH = (1980, 1, 1, 0, 0, 0)
CHECKSUM_LENGTH = 64
LEFT_OUT = ("package.py",)
GUARD = "runctl/agent/guard/"
LARGEST_BYTES = 320 << 10
"""What the file may have, held by a test. It is sent once to a machine, before the machine's first run, while somebody
waits: this takes two thirds of a second on a home's uplink of 4 Mbit/s, and SSM sends it in pieces. How long a verb
takes does not depend on it: Python reads what is unpacked, and of that only what the verb imports."""

# Python compiles what it imports from an archive anew each time, which is half of a verb's time. So the first call
# unpacks the archive beside itself; where that is not possible, the archive itself still works. What unpacking needs
# is imported only then: it takes longer than all that a quick verb needs. A link named like the archive, with a dot
# before it, leads to what was unpacked: see QUICK.
LAUNCH = """\
import os, sys
# Whatever the environment says of other programs: this folder is the agent's own.
sys.dont_write_bytecode = False
archive = os.path.dirname(os.path.abspath(__file__))
folder = os.path.join(os.path.dirname(archive), ".agent-{digest}")
if not os.path.isdir(folder):
    import shutil, tempfile, zipfile
    partial = None
    try:
        partial = tempfile.mkdtemp(prefix=".agent-", suffix=".partial", dir=os.path.dirname(archive))
        os.chmod(partial, 0o755)
        with zipfile.ZipFile(archive) as packed:
            packed.extractall(partial)
        os.rename(partial, folder)
        os.symlink(os.path.basename(folder), os.path.join(partial + ".link"))
        os.rename(partial + ".link", os.path.join(os.path.dirname(archive), "." + os.path.basename(archive)))
    except OSError:
        if partial is not None:
            shutil.rmtree(partial, ignore_errors=True)
if os.path.isdir(folder):
    sys.path[0] = folder
from runctl.agent.__main__ import main
sys.exit(main())
"""

# Python takes longer to look into an archive for what to run than to do what a quick verb wants.
# ``python -I -S -c QUICK ARCHIVE VERB WORD...`` says what Python says itself when the archive is not there.
QUICK = """\
import os, sys
archive = sys.argv[1]
unpacked = os.path.join(os.path.dirname(archive), "." + os.path.basename(archive))
if os.path.isdir(unpacked):
    sys.dont_write_bytecode = False
    sys.path.insert(0, unpacked)
    from runctl.agent.__main__ import main
    sys.exit(main(sys.argv[2:]))
if os.path.exists(archive):
    import runpy
    del sys.argv[0]
    runpy.run_path(archive, run_name="__main__")
else:
    sys.stderr.write("can't open file " + repr(archive))
    sys.exit(2)
"""


def without_prose(source: str) -> str:
    """The same program, line by line, without comments and docstrings: a traceback still names the right lines."""
    lines = source.splitlines(keepends=True)
    for token in tokenize.generate_tokens(iter(lines).__next__):
        if token.type == tokenize.COMMENT:
            row, column = token.start
            lines[row - 1] = lines[row - 1][:column].rstrip() + "\n"
    # The parser counts columns in bytes.
    code: list[bytes] = [line.encode() for line in lines]
    for node in _blocks(ast.parse(source)):
        # A dataclass without a docstring makes itself one of its signature, which takes longer than the class.
        stands_for = b'"-"' if isinstance(node, ast.ClassDef) else b'""'
        for statement in _prose(node):
            first, last = statement.lineno - 1, (statement.end_lineno or statement.lineno) - 1
            before, after = code[first][: statement.col_offset], code[last][statement.end_col_offset or 0 :]
            code[first : last + 1] = [before + stands_for + after] + [b"\n"] * (last - first)
    return b"".join(code).decode()


def _blocks(node: ast.AST) -> Iterator[ast.AST]:
    """It and the statements in it; what is in expressions is none, and there is much of it."""
    yield node
    for child in ast.iter_child_nodes(node):
        if isinstance(child, (ast.stmt, ast.ExceptHandler)):
            yield from _blocks(child)


def _prose(node: ast.AST) -> list[ast.Expr]:
    """Strings that stand as statements: docstrings, and what is said below an attribute."""
    if not isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
        return []
    return [
        statement
        for statement in node.body
        if isinstance(statement, ast.Expr)
        and isinstance(statement.value, ast.Constant)
        and isinstance(statement.value.value, str)
    ]


def with_light_dataclasses(source: str) -> str:
    """The same program, line by line, with `runctl.agent.light_dataclasses` in place of the standard library's own, and
    of `runctl._dataclasses`."""
    light = "runctl.agent.light_dataclasses"
    source = re.sub(
        r"^( *)import dataclasses$", rf"\1import {light} as dataclasses", source, flags=re.MULTILINE
    )
    others = r"^( *)from (?:dataclasses|runctl\._dataclasses) import "
    return re.sub(others, rf"\1from {light} import ", source, flags=re.MULTILINE)


def _sources() -> dict[str, bytes]:
    here = Path(__file__).parent
    return {
        "runctl/" + path.relative_to(here.parent).as_posix(): path.read_bytes()
        for path in sorted(here.rglob("*.py"))
        if path.name not in LEFT_OUT
    }


@functools.lru_cache(maxsize=1)
def digest() -> str:
    """SHA-256 of the sources and of how they are packed, in hex: the same digest, the same zipapp."""
    content = hashlib.sha256(Path(__file__).read_bytes())
    for name, data in _sources().items():
        content.update(f"{name} {hashlib.sha256(data).hexdigest()}\n".encode())
    return content.hexdigest()


@functools.lru_cache(maxsize=1)
def guard() -> bytes:
    """The guard alone, for user data, which has little room: a zipapp, compressed as a whole by zlib."""
    members = {
        name: without_prose(data.decode()).encode()
        for name, data in _sources().items()
        if name.startswith(GUARD)
    }
    members["__main__.py"] = members.pop(GUARD + "__main__.py")
    members.update({"runctl/__init__.py": b"", "runctl/agent/__init__.py": b""})
    return zlib.compress(_packed(members, zipfile.ZIP_STORED), 9)


@functools.lru_cache(maxsize=1)
def zipapp() -> bytes:
    """The zipapp's content. To make it takes a second."""
    members = {
        name: with_light_dataclasses(without_prose(data.decode())).encode()
        for name, data in _sources().items()
    }
    members["runctl/__init__.py"] = b""
    members["__main__.py"] = LAUNCH.replace("{digest}", digest()[:16]).encode()
    packed = b"#!/usr/bin/env python3\n" + _packed(members, zipfile.ZIP_DEFLATED, b"0" * CHECKSUM_LENGTH)
    packed = packed[:-CHECKSUM_LENGTH]
    return packed + hashlib.sha256(packed).hexdigest().encode()


def _packed(members: dict[str, bytes], method: int, comment: bytes = b"") -> bytes:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w") as archive:
        for name, data in sorted(members.items()):
            entry = zipfile.ZipInfo(name, EPOCH)
            entry.external_attr = 0o644 << 16
            entry.create_system = 3
            archive.writestr(entry, data, method, compresslevel=9)
        # The agent's own comment, its last bytes, is a checksum of all before: packing takes a second, reading none.
        archive.comment = comment
    return sink.getvalue()


def _is_whole(path: Path) -> bool:
    try:
        data = path.read_bytes()
    except OSError:
        return False
    packed, checksum = data[:-CHECKSUM_LENGTH], data[-CHECKSUM_LENGTH:]
    return hashlib.sha256(packed).hexdigest().encode() == checksum


def build(cache_dir: Path) -> Path:
    """The zipapp, ``agent-<digest>.pyz`` in ``cache_dir``, which is made if need be. Raises `OSError`."""
    cache_dir.mkdir(parents=True, exist_ok=True)
    path = cache_dir / f"agent-{digest()[:16]}.pyz"
    if _is_whole(path):
        return path
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    partial.write_bytes(zipapp())
    partial.chmod(0o755)
    partial.replace(path)
    return path
