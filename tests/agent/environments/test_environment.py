"""What a project needs is installed, in an environment of the run's own, by the real installers."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path

import pytest

from runctl.agent.end_reason import EndReason
from runctl.agent.environments.environment import UV_VERSION
from runctl.agent.environments.interpreter import Interpreter, best, satisfies
from runctl.project.dependencies import find_dependencies
from runctl.project.files import ProjectFiles
from tests.agent.driver import Agent
from tests.project.files import write

REQUIREMENTS = {"kind": "requirements", "path": "requirements.txt"}


def wheel(folder: Path, name: str, version: str, needs: Sequence[str] = ()) -> Path:
    """A wheel made by hand: installers need no network for it."""
    folder.mkdir(exist_ok=True)
    path = folder / f"{name}-{version}-py3-none-any.whl"
    info = f"{name}-{version}.dist-info"
    requires = "".join(f"Requires-Dist: {need}\n" for need in needs)
    files = {
        f"{name}.py": f"VERSION = '{version}'\n",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{requires}",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    files[f"{info}/RECORD"] = "".join(f"{entry},,\n" for entry in [*files, f"{info}/RECORD"])
    with zipfile.ZipFile(path, "w") as archive:
        for item, text in files.items():
            archive.writestr(item, text)
    return path


@pytest.fixture
def offline(agent: Agent, tmp_path: Path) -> Agent:
    """The agent, with an index of wheels made by hand in place of PyPI."""
    wheel(tmp_path / "wheels", "leaf", "1.0")
    wheel(tmp_path / "wheels", "leaf", "2.0")
    wheel(tmp_path / "wheels", "branch", "1.0", ["leaf<2"])
    links = str(tmp_path / "wheels")
    agent.env = {
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_FIND_LINKS": links,
        "UV_FIND_LINKS": links,
        "PIP_NO_INDEX": "1",
        "UV_NO_INDEX": "1",
    }
    return agent


HATCH = '[build-system]\nrequires = ["hatchling"]\nbuild-backend = "hatchling.build"\n'
SHOWN = "import zqleaf\nprint(zqleaf.VERSION)\n"
SHOW = "import leaf, sys\nprint(leaf.VERSION, sys.prefix)\n"


@pytest.mark.parametrize(
    ("needs", "files"),
    [
        (REQUIREMENTS, {"requirements.txt": "branch\n"}),
        ({"kind": "pep723", "path": "train.py", "requirements": ["branch"]}, {}),
        (
            {"kind": "pyproject", "path": "pyproject.toml", "requirements": ["branch"]},
            {"pyproject.toml": '[project]\nname = "x"\nversion = "1"\ndependencies = ["branch"]\n'},
        ),
    ],
)
def test_requirements_are_installed_for_the_run_alone(
    offline: Agent, needs: dict[str, object], files: dict[str, str]
) -> None:
    offline.sync({"train.py": SHOW, **files})
    offline.start("r", "train.py", dependencies=needs)
    assert offline.ended("r").reason is EndReason.COMPLETED, offline.log("r")
    assert offline.output("r")[-1] == f"1.0 {offline.folder('r') / 'env'}"


def test_a_requirement_that_does_not_exist_ends_the_set_up_with_its_last_lines(offline: Agent) -> None:
    offline.sync({"train.py": "print('never')\n", "requirements.txt": "no-such-package-of-ours\n"})
    offline.start("r", "train.py", dependencies=REQUIREMENTS)
    end = offline.ended("r")
    assert end.reason is EndReason.SETUP_FAILED
    assert "no-such-package-of-ours" in end.message
    assert "never" not in offline.log("r")


def test_no_python_that_fits_says_which_there_are(offline: Agent) -> None:
    offline.sync({"train.py": "print('never')\n"})
    offline.start("r", "train.py", dependencies={"kind": "pep723", "requires_python": ">=9"})
    end = offline.ended("r")
    assert end.reason is EndReason.SETUP_FAILED
    assert ">=9" in end.message
    assert "python" in end.message


def test_nothing_to_install_makes_no_environment(offline: Agent) -> None:
    offline.sync({"train.py": "print('ran')\n"})
    offline.start("r", "train.py", dependencies={"kind": "pep723", "path": "train.py"})
    assert offline.ended("r").reason is EndReason.COMPLETED
    assert not (offline.folder("r") / "env").exists()


def test_a_lock_file_is_installed_by_uv_as_it_stands(agent: Agent, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fetches uv and one small package from PyPI, trusting what the system trusts and nothing that is set for it."""
    for name in ("SSL_CERT_FILE", "SSL_CERT_DIR"):
        monkeypatch.delenv(name, raising=False)
    lock = (
        'version = 1\nrequires-python = ">=3.9"\n\n'
        '[[package]]\nname = "iniconfig"\nversion = "2.0.0"\n'
        'source = { registry = "https://pypi.org/simple" }\n'
        'wheels = [{ url = "https://files.pythonhosted.org/packages/ef/a6/'
        '62565a6e1cf69e10f5727360368e451d4b7f58beeac6173dc9db836a5b46/iniconfig-2.0.0-py3-none-any.whl", '
        'hash = "sha256:b6a85871a79d2e3b22d2d1b94ac2824226a63c6b741c88f7ae975f18b6778374", size = 5892 }]\n\n'
        '[[package]]\nname = "x"\nversion = "1"\nsource = { virtual = "." }\ndependencies = [{ name = "iniconfig" }]\n'
        '\n[package.metadata]\nrequires-dist = [{ name = "iniconfig" }]\n'
    )
    project = (
        '[project]\nname = "x"\nversion = "1"\nrequires-python = ">=3.9"\ndependencies = ["iniconfig"]\n'
    )
    agent.sync(
        {
            "train.py": "import importlib.metadata as m\nprint(m.version('iniconfig'))\n",
            "uv.lock": lock,
            "pyproject.toml": project,
        }
    )
    agent.start("r", "train.py", dependencies={"kind": "uv.lock", "path": "uv.lock"})
    assert agent.ended("r").reason is EndReason.COMPLETED, agent.log("r")
    assert agent.output("r")[-1] == "2.0.0"


HEADER = (
    '# /// script\n# dependencies = ["zqleaf"]\n#\n# [tool.uv.sources]\n# zqleaf = { path = "own" }\n# ///\n'
)
OWN = {
    "own/pyproject.toml": '[project]\nname = "zqleaf"\nversion = "7"\n' + HATCH,
    "own/zqleaf/__init__.py": "VERSION = '7'\n",
}
SOURCE = "[tool.uv.sources]\nzqleaf = { workspace = true }\n"
MEMBER = '[project]\nname = "m"\nversion = "1"\nrequires-python = ">=3.9"\ndependencies = ["zqleaf"]\n'
SETUPTOOLS = '[build-system]\nrequires = ["setuptools"]\nbuild-backend = "setuptools.build_meta"\n'
SETUP_CFG = "[metadata]\nname = x\n[options]\npy_modules = t\ninstall_requires = zqleaf<2\n"
SHAPES: list[tuple[dict[str, str], str, tuple[str, ...]]] = [
    # files, script, the oracle's words
    ({"t.py": HEADER + SHOWN, **OWN}, "t.py", ("run", "t.py")),
    (
        {
            "pyproject.toml": '[tool.uv.workspace]\nmembers = ["own", "m"]\n',
            "m/pyproject.toml": MEMBER + SOURCE,
            "m/t.py": SHOWN,
            **OWN,
        },
        "m/t.py",
        ("run", "t.py"),
    ),
    ({"t.py": SHOWN, "requirements.txt": "--pre\nzqleaf\n"}, "t.py", ("-r", "requirements.txt")),
    ({"t.py": SHOWN, "pyproject.toml": SETUPTOOLS, "setup.cfg": SETUP_CFG}, "t.py", ("-e", ".")),
]


@pytest.mark.parametrize(
    ("files", "script", "oracle"),
    SHAPES,
)
def test_every_shape_of_a_project_has_what_uv_run_or_pip_would_give_it(
    agent: Agent, tmp_path: Path, files: dict[str, str], script: str, oracle: tuple[str, ...]
) -> None:
    """Fetches uv and build backends from PyPI; the requirements themselves are wheels made by hand."""
    for version in ("1.0", "2.0", "3.0b1"):
        wheel(tmp_path / "wheels", "zqleaf", version)
    links = str(tmp_path / "wheels")
    agent.env = {"PIP_FIND_LINKS": links, "UV_FIND_LINKS": links, "UV_SYSTEM_CERTS": "true"}
    env = {**os.environ, **agent.env}
    env.pop("VIRTUAL_ENV", None)
    root = write(tmp_path / "shape", files)
    needs = find_dependencies(ProjectFiles(root, set(files)), script).spec
    agent.sync(files)
    agent.start("r", script, dependencies=dataclasses.asdict(needs))
    assert agent.ended("r").reason is EndReason.COMPLETED, agent.log("r")
    folder = root / Path(script).parent
    if oracle[0] == "run":
        argv = [str(agent.state / "tools" / f"uv-{UV_VERSION}" / "bin" / "uv"), *oracle]
    else:
        python = tmp_path / "venv" / "bin" / "python"
        subprocess.run([sys.executable, "-m", "venv", python.parent.parent], check=True)
        subprocess.run([python, "-m", "pip", "install", "-q", *oracle], check=True, cwd=folder, env=env)
        argv = [str(python), "t.py"]
    right = subprocess.run(argv, check=True, cwd=folder, env=env, capture_output=True, text=True)
    assert agent.output("r")[-1] == right.stdout.strip()


@pytest.mark.parametrize(
    ("version", "wanted", "allowed"),
    [
        ((3, 11, 2), None, True),
        ((3, 11, 2), ">=3.9", True),
        ((3, 11, 2), ">=3.9,<3.11", False),
        ((3, 11, 2), "==3.11.*", True),
        ((3, 11, 2), "!=3.11.*", False),
        ((3, 11, 2), "~=3.9", True),
        ((3, 11, 2), "~=3.9.1", False),
        ((3, 11, 2), "==3.11", False),
        ((3, 11, 0), "==3.11", True),
        ((3, 11, 2), ">3.11", True),
        ((3, 11, 2), "<=3.11.2", True),
    ],
)
def test_requires_python_is_understood(version: tuple[int, ...], wanted: str | None, allowed: bool) -> None:
    assert satisfies(version, wanted) is allowed


def test_a_python_with_a_framework_comes_first_if_it_is_allowed() -> None:
    plain = Interpreter("/usr/bin/python3", (3, 12, 0))
    deep = Interpreter("/opt/pytorch/bin/python3", (3, 10, 0), frameworks=("torch",))
    assert best([plain, deep], None) is deep
    assert best([plain, deep], ">=3.11") is plain
    assert best([plain, deep], ">=4") is None


@pytest.mark.linux
def test_packages_of_a_framework_environment_are_seen_and_not_fetched_again(
    offline: Agent, tmp_path: Path
) -> None:
    image = tmp_path / "image"
    subprocess.run([sys.executable, "-m", "venv", str(image)], check=True)
    site = next((image / "lib").glob("python*/site-packages"))
    for name, version in (("torch", "9.9"), ("leaf", "1.0")):
        with zipfile.ZipFile(wheel(tmp_path / "image-wheels", name, version)) as archive:
            archive.extractall(site)
    offline.env["PATH"] = f"{image}/bin{os.pathsep}{os.environ['PATH']}"
    offline.env["RUNCTL_MACHINE_ROOT"] = str(tmp_path / "root")
    (tmp_path / "root").mkdir()
    offline.sync({"train.py": "import torch\n" + SHOW, "requirements.txt": "torch\nbranch\n"})
    offline.start("r", "train.py", dependencies=REQUIREMENTS)
    assert offline.ended("r").reason is EndReason.COMPLETED, offline.log("r")
    assert "with pip" in offline.log("r")
    installed = next((offline.folder("r") / "env/lib").glob("python*/site-packages"))
    assert (installed / "branch.py").exists()
    assert not (installed / "torch.py").exists()
    assert not (installed / "leaf.py").exists()
