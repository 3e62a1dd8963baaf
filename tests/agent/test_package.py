"""The one file that is sent to a machine."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from runctl.agent import package
from tests.agent.driver import Agent

SOURCES = Path(package.__file__).parent


def test_the_same_sources_give_the_same_bytes(tmp_path: Path) -> None:
    first = package.build(tmp_path / "a")
    code = (
        "import sys; from pathlib import Path; from runctl.agent import package; "
        "print(package.build(Path(sys.argv[1])))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "b")],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONHASHSEED": "7"},
    )
    second = Path(done.stdout.strip())
    assert first.name == second.name
    assert first.read_bytes() == second.read_bytes()
    assert package.digest()[:16] in first.name


def test_it_holds_the_agent_and_nothing_else(built: Path) -> None:
    with zipfile.ZipFile(built) as archive:
        names = archive.namelist()
    outside = [
        n
        for n in names
        if not n.startswith("runctl/agent/") and n not in ("__main__.py", "runctl/__init__.py")
    ]
    assert outside == []
    assert "runctl/agent/package.py" not in names
    assert built.stat().st_size < package.LARGEST_BYTES


def test_it_is_the_same_program_without_what_explains_it(built: Path) -> None:
    with zipfile.ZipFile(built) as archive:
        for path in sorted(SOURCES.rglob("*.py")):
            if path.name in package.LEFT_OUT:
                continue
            packed = archive.read("runctl/agent/" + path.relative_to(SOURCES).as_posix()).decode()
            assert code_of(packed) == code_of(path.read_text(encoding="utf-8")), path
            assert "\n#" not in packed


def code_of(source: str) -> list[tuple[str, int]]:
    """Every statement and expression but strings that stand alone, with its line."""
    return sorted(
        (type(node).__name__, node.lineno)
        for node in ast.walk(ast.parse(source))
        if isinstance(node, (ast.expr, ast.stmt)) and not isinstance(node, (ast.Expr, ast.Constant))
    )


def test_strings_that_look_like_comments_stay() -> None:
    source = 'def f():\n    """Says."""\n    return "# no comment", \'\'\'a\n# b\'\'\'  # why\n'
    done: dict[str, object] = {}
    stripped = package.without_prose(source)
    exec(stripped, done)
    assert done["f"]() == ("# no comment", "a\n# b")  # type: ignore[operator]
    assert "why" not in stripped and "Says" not in stripped


def test_a_damaged_file_in_the_cache_is_made_anew(tmp_path: Path) -> None:
    path = package.build(tmp_path)
    good = path.read_bytes()
    path.write_bytes(b"damaged")
    assert package.build(tmp_path).read_bytes() == good


@pytest.mark.parametrize(
    "path",
    sorted(SOURCES.rglob("*.py")),
    ids=lambda p: p.relative_to(SOURCES).as_posix(),
)
def test_the_agent_needs_nothing_but_the_standard_library_of_python_39(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"), feature_version=(3, 9))
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        elif isinstance(node, ast.Import):
            names = [item.name for item in node.names]
        else:
            continue
        for name in names:
            top = name.partition(".")[0]
            # Put in its place when the agent is packed.
            ours = name.startswith("runctl.agent") or name == "runctl._dataclasses"
            assert ours or top in sys.stdlib_module_names, name


def test_it_works_where_it_cannot_unpack_itself(built: Path, tmp_path: Path) -> None:
    folder = tmp_path / "read-only"
    folder.mkdir()
    # A folder that takes no further names: not even root makes one in /proc/self/fd, and a file is no folder.
    archive = folder / built.name
    archive.write_bytes(built.read_bytes())
    blocked = next(
        line
        for line in zipfile.ZipFile(built).read("__main__.py").decode().split('"')
        if line.startswith(".agent-") and len(line) > 10
    )
    (folder / blocked).touch()
    agent = Agent(archive, tmp_path / "state")
    assert agent.call("status").ok == []


def test_a_quick_verb_loads_little(agent: Agent) -> None:
    """Every round trip pays for what is imported."""
    agent.call("status")
    command = agent.command("status")
    done = subprocess.run(
        [command[0], "-X", "importtime", *command[1:]],
        input=b"{}",
        capture_output=True,
        env=agent.environment,
        check=True,
    )
    loaded = {line.rpartition(b"|")[2].strip().decode() for line in done.stderr.splitlines()}
    ours = {name.removeprefix("runctl.agent.") for name in loaded if name.startswith("runctl.agent.")}
    assert ours == {
        *(
            "__main__",
            "errors",
            "request",
            "spec",
            "encoding",
            "end_reason",
            "light_dataclasses",
            "after_run",
            "checkpoint_spec",
            "deadline_spec",
            "interruption",
            "node_spec",
        ),
        *("machine", "machine.durable", "machine.processes", "machine.root"),
        *("attempt", "attempt.log", "records"),
    }
    heavy = {
        "asyncio",
        "ctypes",
        "dataclasses",
        "email",
        "hashlib",
        "http.client",
        "inspect",
        "shutil",
        "ssl",
        "tarfile",
        "tempfile",
        "zipfile",
    }
    assert "json" in loaded
    assert not loaded & heavy


def quickly(archive: Path, state: Path) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-I", "-S", "-c", package.QUICK, str(archive), "sync", "demo", "0" * 64],
        input=b"",
        capture_output=True,
        env={**os.environ, "RUNCTL_AGENT_STATE": str(state)},
        check=False,
    )


def test_the_quick_way_unpacks_it_the_first_time_and_then_uses_that(built: Path, tmp_path: Path) -> None:
    archive = tmp_path / built.name
    archive.write_bytes(built.read_bytes())

    first = quickly(archive, tmp_path / "state")
    unpacked = archive.with_name("." + archive.name)
    was_there = unpacked.is_dir()
    archive.write_bytes(b"no archive any more")
    second = quickly(archive, tmp_path / "state")

    assert was_there
    assert first.stdout == second.stdout == b'{"ok":{"have":false,"current":false}}\n'
    assert first.returncode == second.returncode == 0


def test_the_quick_way_says_that_it_is_not_there_as_python_does(tmp_path: Path) -> None:
    done = quickly(tmp_path / "agent-0.pyz", tmp_path)

    assert done.returncode == 2
    assert b"can't open file" in done.stderr
