"""What holds for every test: nothing of the user's is read or changed, and a missing tool is named, or fails in CI."""

from __future__ import annotations

import gc
import itertools
import os
import re
import signal
import sys
from collections.abc import Generator
from pathlib import Path

import hypothesis
import platformdirs
import pytest

from tests.availability import PROBES, is_ci, is_excused, reason_against
from tests.ordering import shares

# A computer that is busy with other things makes no property false.
hypothesis.settings.register_profile(
    "runctl", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("runctl")

pytest_plugins = ("tests.sandbox_fixture", "tests.aws_fixtures")

KEPT_VARIABLES = frozenset({"RUNCTL_IMAGE_CACHE", "RUNCTL_TEST_ENVIRONMENTS", "AWS_CA_BUNDLE"})
"""Variables of this computer that hold no settings of the user's."""

SHARED_CACHES = {
    "RUNCTL_IMAGE_CACHE": platformdirs.user_cache_path("runctl") / "images",
    "RUNCTL_TEST_ENVIRONMENTS": platformdirs.user_cache_path("runctl") / "test-environments",
    "UV_CACHE_DIR": platformdirs.user_cache_path("uv"),
    "PIP_CACHE_DIR": platformdirs.user_cache_path("pip"),
}
"""Downloads that every test may share: their content is addressed or checked."""


def pytest_configure() -> None:
    """Programs that tests start hear Ctrl-C, and find what Python has compiled, whatever our surroundings are.

    Whoever runs us in the background may ignore Ctrl-C; and compiling boto3 takes longer than most commands.
    """
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    sys.dont_write_bytecode = False
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Workers begin with what takes long."""
    worker = getattr(config, "workerinput", None)
    if worker is not None:
        items[:] = [
            items[place] for place in shares([str(item.path) for item in items], worker["workercount"])
        ]


def pytest_collection_finish() -> None:
    """Thousands of tests stay to the end: looking for garbage among them each time takes longer than many of them."""
    gc.freeze()


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what cannot run on this machine, and say why."""
    for marker in PROBES:
        if item.get_closest_marker(marker) is not None and (reason := reason_against(marker)):
            pytest.skip(f"{marker}: {reason}")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """With CI=true everything must be there: a skip is a failure."""
    report = yield
    if report.skipped and not hasattr(report, "wasxfail") and is_ci(os.environ):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        if not is_excused(reason):
            report.outcome = "failed"
            report.longrepr = f"{item.nodeid} did not run, and CI is set. {reason}"
    return report


@pytest.fixture(scope="session", autouse=True)
def no_settings_of_the_user(tmp_path_factory: pytest.TempPathFactory) -> Generator[None]:
    """Session-wide fixtures, too, see no account, no configuration and no state but their own."""
    with pytest.MonkeyPatch.context() as patch:
        _isolate(patch, tmp_path_factory.mktemp("session"))
        yield


@pytest.fixture(scope="session")
def packed_agents(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the agent is packed once for all tests: its name is a digest of its content, which is checked."""
    return tmp_path_factory.mktemp("agents")


@pytest.fixture(scope="session")
def read_descriptions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where descriptions of AWS's services are unpacked once for all tests: their names are digests."""
    return tmp_path_factory.mktemp("botocore")


_numbers = itertools.count()


def _new_folder(factory: pytest.TempPathFactory, name: str) -> Path:
    """An empty folder, of a number that was not there before; pytest looks through all others for the next one."""
    folder = factory.getbasetemp() / f"{name}-{next(_numbers)}"
    folder.mkdir(mode=0o700)
    return folder


@pytest.fixture
def tmp_path(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As pytest's own, which takes longer the more tests there were."""
    return _new_folder(tmp_path_factory, re.sub(r"\W", "_", request.node.name)[:30])


@pytest.fixture(autouse=True)
def own_folders(
    tmp_path_factory: pytest.TempPathFactory,
    no_settings_of_the_user: None,
    packed_agents: Path,
    read_descriptions: Path,
) -> Generator[None]:
    """Every test has data, configuration and cache folders of its own."""
    with pytest.MonkeyPatch.context() as patch:
        folder = _new_folder(tmp_path_factory, "xdg")
        _point_folders(patch, folder)
        cache = folder / "cache" / "runctl"
        cache.mkdir(parents=True)
        (cache / "agent").symlink_to(packed_agents)
        (cache / "botocore").symlink_to(read_descriptions)
        yield


def _isolate(patch: pytest.MonkeyPatch, folder: Path) -> None:
    for name, path in SHARED_CACHES.items():
        patch.setenv(name, os.environ.get(name, str(path)))
    for name in list(os.environ):
        if name.startswith(("AWS_", "RUNCTL_", "XDG_")) and name not in KEPT_VARIABLES:
            patch.delenv(name)
    patch.setenv("AWS_CONFIG_FILE", str(folder / "no-aws-config"))
    patch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(folder / "no-aws-credentials"))
    patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    patch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    patch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    for role in ("AUTHOR", "COMMITTER"):
        patch.setenv(f"GIT_{role}_NAME", "A Tester")
        patch.setenv(f"GIT_{role}_EMAIL", "tester@example.com")
    for name in ("COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR"):
        patch.delenv(name, raising=False)
    _point_folders(patch, folder)


def _point_folders(patch: pytest.MonkeyPatch, folder: Path) -> None:
    for kind in ("DATA", "CONFIG", "CACHE", "STATE"):
        patch.setenv(f"XDG_{kind}_HOME", str(folder / kind.lower()))
    runtime = folder / "runtime"
    runtime.mkdir(mode=0o700)
    patch.setenv("XDG_RUNTIME_DIR", str(runtime))
