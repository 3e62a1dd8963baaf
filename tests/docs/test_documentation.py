"""The documentation is true: its commands run, its tables say what the code says, its links lead somewhere."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import pty
import re
import select
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import click
import pytest

from runctl.agent.end_reason import RETRIED, EndReason
from runctl.agent.spec import EndRecord
from runctl.cli.framework.commands import RootGroup
from runctl.core import errors, extensions, machine_models, run_models
from runctl.core.config import rules
from runctl.costs.budget import BudgetUse, Limit
from runctl.costs.reconciliation import Difference, Reconciliation
from runctl.costs.report import CostLine, CostReport
from runctl.machines.pool_record import PoolSummary
from runctl.machines.spot_market import PoolAdvice, PoolPrices
from runctl.providers.abilities.catalogue import Offers, UnreadRegion
from runctl.providers.abilities.inventory import Resource, Unread
from runctl.providers.abilities.prices import FreePrices, PricePoint
from runctl.providers.capacity import LeftOut, Offer, Pool
from runctl.providers.instance_plans import InstanceRequest
from runctl.render.json import to_builtins
from runctl.render.offers import offers_document
from runctl.render.plans.machine_plans import plan_document
from runctl.runs.costs import AttemptCost, RunCost
from runctl.runs.end_report import exit_code
from runctl.runs.launch.launch_plan import ResultsPlan, Storing
from runctl.runs.results import LaunchEnd, Results
from runctl.runs.status import KeptThing, RunningMachine, Status
from tests.availability import terraform_environment
from tests.cli.fake_provider import a_plan
from tests.docs.pages import blocks, matches, needs, script, steps
from tests.forked import client
from tests.machines.test_offers import ONE
from tests.rates import hourly

REPOSITORY = Path(__file__).parents[2]
PAGES = [
    REPOSITORY / "README.md",
    REPOSITORY / "CHANGELOG.md",
    *sorted((REPOSITORY / "docs").glob("*.md")),
    *sorted((REPOSITORY / "examples").glob("*/README.md")),
]
MINUTES = 60
LONG = frozenset(
    f"docs/{name}.md"
    for name in (
        *("aws-cli", "cleanup", "costs", "deadlines", "launch", "limits", "lyceum", "recovery", "runpod"),
        *("several-machines", "spot-capacity", "terraform", "unattended"),
    )
)
"""Pages that take half a minute and more: `scripts/test slow` runs them."""


def name_of(page: Path) -> str:
    return str(page.relative_to(REPOSITORY))


def runnable_pages() -> list[object]:
    return [
        pytest.param(
            page,
            id=name_of(page),
            marks=[
                *(getattr(pytest.mark, need) for need in needs(page.read_text())),
                *([pytest.mark.slow] if name_of(page) in LONG else []),
            ],
        )
        for page in PAGES
        if steps(page.read_text())
    ]


@pytest.fixture(scope="module")
def quick_programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder whose ``runctl`` does what the installed one does, and starts sooner."""
    return client.on_path(tmp_path_factory.mktemp("programs") / "bin")


INSTALLED = Path(sys.executable).parent
WITH_THE_INSTALLED_PROGRAM = ("docs/getting-started.md", "docs/local.md", "docs/sandbox.md")
"""Pages whose commands are started as a user starts them."""


@pytest.mark.parametrize("page", runnable_pages())
def test_a_page_does_what_it_shows(page: Path, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    todo = steps(page.read_text())
    results = tmp_path / "results"
    results.mkdir()
    work = tmp_path / "runctl"
    work.mkdir()
    shutil.copytree(REPOSITORY / "examples", work / "examples")
    programs = [str(INSTALLED), os.environ["PATH"]]
    if name_of(page) not in WITH_THE_INSTALLED_PROGRAM and sys.platform == "linux":
        programs.insert(0, str(request.getfixturevalue("quick_programs")))
    environment = {**os.environ, "PATH": os.pathsep.join(programs), "LC_ALL": "C.UTF-8"}
    if "terraform" in needs(page.read_text()):
        environment |= terraform_environment(tmp_path)
    try:
        run_at_most(["bash", "-c", script(todo, results)], work, environment, seconds=4 * MINUTES)
    finally:
        run_at_most(["runctl", "sandbox", "stop"], work, environment, seconds=MINUTES)
    for number, step in enumerate(todo):
        out, err, code = (results / f"{number}.{kind}" for kind in ("out", "err", "code"))
        where = f"{name_of(page)}:{step.line}: {step.command}"
        ended = int(code.read_text()) if code.exists() else "no code: it took too long"
        told = f"{out.read_text()}\n{err.read_text()}"
        assert ended == step.exit_code, f"{where}\nended with {ended}\n{told}"
        assert matches(step.shown, out.read_text()), f"{where}\nprinted\n{told}"


@pytest.mark.namespaces
def test_the_first_five_minutes_can_be_typed_into_an_empty_folder(tmp_path: Path) -> None:
    """Literally, on a terminal, by a shell that stops at the first command that fails."""
    section = (REPOSITORY / "README.md").read_text().partition("## The first five minutes\n")[2]
    (typed,) = [block.body for block in blocks(section.partition("\n## ")[0]) if block.language == "sh"]
    folder = tmp_path / "empty"
    folder.mkdir()
    check = 'env | grep -E "^(AWS_|RUNCTL_SANDBOX)" && exit 9; echo "left no variables"\n'
    program = tmp_path / "typed.sh"
    program.write_text(f"set -eu -o pipefail\n{typed}\n{check}")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    try:
        code, shown = on_a_terminal(["bash", program], folder, environment, seconds=4 * MINUTES)
    finally:
        run_at_most(["runctl", "sandbox", "stop"], folder, environment, seconds=MINUTES)
    assert code == 0, shown
    assert "epoch 5: slope 2.906" in shown
    assert "COMPLETED" in shown
    assert "left no variables" in shown


def on_a_terminal(
    argv: list[str | Path], folder: Path, environment: dict[str, str], *, seconds: float
) -> tuple[int | None, str]:
    """The exit code (``None`` when it took too long) and all that the terminal was sent."""
    leader, follower = pty.openpty()
    process = subprocess.Popen(
        argv,
        cwd=folder,
        env=environment,
        stdin=follower,
        stdout=follower,
        stderr=follower,
        start_new_session=True,
    )
    os.close(follower)
    shown = b""
    limit = time.monotonic() + seconds
    try:
        # Reading fails on Linux once nobody has the other side open.
        with contextlib.suppress(OSError):
            while time.monotonic() < limit:
                if select.select([leader], [], [], 1)[0]:
                    shown += os.read(leader, 1 << 16)
                elif process.poll() is not None:
                    break
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(max(0.0, limit - time.monotonic()))
        code = process.poll()
    finally:
        os.close(leader)
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    return code, shown.decode(errors="replace")


def run_at_most(argv: list[str], folder: Path, environment: dict[str, str], *, seconds: float) -> None:
    """Run it; when the time is up, end it and what it has started."""
    process = subprocess.Popen(
        argv,
        cwd=folder,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        # A step that takes too long is told by its missing code.
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(seconds)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), f"{name_of(page)} links to {target}"
        if anchor:
            assert anchor in anchors(file.read_text()), f"{name_of(page)} links to {target}"


def anchors(text: str) -> set[str]:
    titles = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def rows(page: str, title: str) -> list[list[str]]:
    """The cells of the first table under a heading, without its head."""
    section = (REPOSITORY / "docs" / page).read_text().partition(f"# {title}\n")[2]
    table = re.search(r"(?:^\|.*\|\n)+", section, re.MULTILINE)
    assert table is not None, f"{page} has no table under {title}"
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table[0].splitlines()[2:]]


@pytest.fixture
def example_provider(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The package in examples/provider, as if it were installed: pages name its commands."""
    monkeypatch.syspath_prepend(REPOSITORY / "examples" / "provider" / "src")
    entry = extensions.Extension("hosts", "runctl_hosts.plugin:plugin")
    everything = {**extensions.installed(), "hosts": (entry,)}
    monkeypatch.setattr(extensions, "installed", lambda: everything)
    yield
    extensions.loaded.cache_clear()


@pytest.mark.usefixtures("example_provider")
@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_a_command_that_is_only_named_exists_too(page: Path) -> None:
    for line in named_commands(page.read_text()):
        assert unknown_words(line) == [], f"{name_of(page)}: {line}"


def named_commands(text: str) -> list[str]:
    """What begins with ``runctl`` in code between backticks and in blocks for a shell, up to its ``--``."""
    shell = "\n".join(block.body for block in blocks(text) if block.language in {"sh", "console"})
    spans = re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL))
    found = [
        match
        for line in [*shell.splitlines(), *spans]
        for match in re.findall(r"(?:^|[$(|;] ?|until )(runctl(?: [^|);#]*)?)", line)
    ]
    return [f"{line} ".partition(" -- ")[0].strip() for line in found]


def unknown_words(line: str) -> list[str]:
    """The commands and options in it that the command line does not have."""
    command: click.Command = RootGroup()
    context = click.Context(command)
    text = shlex.split(line)[1:]
    while text and isinstance(command, click.Group) and not text[0].startswith("-"):
        child = command.get_command(context, text[0])
        if child is None:
            return text[:1]
        command = child
        del text[0]
    known = {
        option for parameter in command.params for option in [*parameter.opts, *parameter.secondary_opts]
    }
    return [
        word
        for word in text
        if word.startswith("-") and word.partition("=")[0] not in known | {"--help", "-h"}
    ]


def test_commands_that_do_not_exist_are_noticed() -> None:
    assert unknown_words("runctl aws fly") == ["fly"]
    assert unknown_words("runctl aws create --spotty --quiet") == ["--spotty"]
    assert named_commands("```sh\nX=$(runctl aws list -q) # x\n```\n`runctl nope` and `runctl a -- b`") == [
        "runctl aws list -q",
        "runctl nope",
        "runctl a",
    ]


def test_every_error_has_a_documented_exit_code() -> None:
    documented = {int(row[0]) for row in rows("exit-codes.md", "Exit codes")}
    kinds = [
        kind
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, errors.RunctlError)
    ]
    assert {kind.exit_code for kind in kinds} | {0} == documented


def test_every_end_reason_has_its_documented_exit_code() -> None:
    documented = {
        reason: code
        for reasons, code in rows("exit-codes.md", "The script's own code")
        for reason in re.findall(r"`(\w+)`", reasons)
    }
    expected = {
        reason.value: str(exit_code(EndRecord(reason=reason, ended_at=0.0)))
        for reason in EndReason
        if reason not in {EndReason.COMPLETED, EndReason.FAILED}
    }
    assert documented == expected | {"COMPLETED": "the script's own", "FAILED": "the script's own"}


def test_the_documented_decision_is_that_of_the_table() -> None:
    (retried, follows), (others, then) = rows("recovery.md", "What follows an attempt")

    assert re.findall(r"`(\w+)`", retried) == [reason.value for reason in EndReason if reason in RETRIED]
    assert follows == "another attempt, as follows"
    assert others.startswith("anything else")
    assert then.startswith("none")


def test_a_cluster_tries_again_what_the_table_does() -> None:
    for ends, happens in rows("kubernetes.md", "Ends"):
        named = {EndReason(name) for name in re.findall(r"`([A-Z_]+)`", ends)}
        assert named, ends
        again = happens.startswith("another pod")
        assert named <= RETRIED if again else not named & RETRIED, ends


def test_every_end_reason_is_explained() -> None:
    assert [row[0].strip("`") for row in rows("json.md", "Run")] == [reason.value for reason in EndReason]


@pytest.mark.parametrize("shape", ["Instance", "Volume", "Snapshot", "Run", "Checkpoint"])
def test_a_json_shape_is_the_models(shape: str) -> None:
    text = (REPOSITORY / "docs" / "json.md").read_text()
    (example,) = [json.loads(block.body) for block in blocks(text) if block.options.get("shape") == shape]
    model = getattr(run_models if shape in {"Run", "Checkpoint"} else machine_models, shape)
    assert list(example) == [field.name for field in dataclasses.fields(model)]


def test_a_resources_documents_are_as_documented() -> None:
    text = (REPOSITORY / "docs" / "json.md").read_text()
    shapes = {
        block.options["shape"]: json.loads(block.body) for block in blocks(text) if "shape" in block.options
    }

    assert list(shapes["Resource"]) == [
        *(field.name for field in dataclasses.fields(Resource)),
        "price_per_month",
    ]
    assert list(shapes["Unread"]) == [field.name for field in dataclasses.fields(Unread)]


def test_a_launchs_documents_are_as_documented() -> None:
    text = (REPOSITORY / "docs" / "json.md").read_text()
    shapes = {
        shape: json.loads(block.body)
        for block in blocks(text)
        if (shape := block.options.get("shape")) is not None
    }
    ended, plan = shapes["LaunchEnd"], shapes["LaunchPlan"]

    def names(kind: type) -> list[str]:
        return [field.name for field in dataclasses.fields(kind)]

    assert list(ended) == names(LaunchEnd)
    assert list(ended["results"]) == names(Results)
    assert list(plan["results"]) == names(ResultsPlan)
    stored = FreePrices("a test").storage(None)
    assert shape_of(plan["storing"]) == shape_of(to_builtins(Storing(("s3://bucket/runs",), stored)))
    assert (
        list(plan["machine_end"]) == names(run_models.MachineAfterRun) == list(shapes["Run"]["machine_end"])
    )


def test_what_was_spent_is_told_as_documented() -> None:
    text = (REPOSITORY / "docs" / "json.md").read_text()
    shapes = {
        block.options["shape"]: json.loads(block.body) for block in blocks(text) if "shape" in block.options
    }

    def names(kind: type) -> list[str]:
        return [field.name for field in dataclasses.fields(kind)]

    status, report, run = shapes["Status"], shapes["CostReport"], shapes["RunCost"]
    assert list(status) == names(Status)
    assert list(status["machines"][0]) == names(RunningMachine)
    assert list(status["kept"][0]) == names(KeptThing)
    assert list(status["budget"][0]) == names(BudgetUse)
    assert list(status["budget"][0]["limit"]) == names(Limit)
    assert list(report) == names(CostReport)
    assert list(report["lines"][0]) == names(CostLine)
    assert list(run) == names(RunCost)
    assert list(run["attempts"][0]) == names(AttemptCost)
    assert list(shapes["Reconciliation"]) == names(Reconciliation)
    assert list(shapes["Reconciliation"]["lines"][0]) == names(Difference)


def test_the_offers_of_a_plan_are_as_documented() -> None:
    text = (REPOSITORY / "docs" / "json.md").read_text()
    (body,) = [block.body for block in blocks(text) if block.options.get("shape") == "Offers"]
    example = json.loads(body)
    offers = (Offer(Pool("g4dn.xlarge", "us-east-1b"), hourly(1, "a test"), "subnet"),)
    left_out = (LeftOut(Pool("g4dn.xlarge", "us-east-1c"), "the volume's zone"),)
    plan = plan_document(a_plan(InstanceRequest(), offers=offers, left_out=left_out))

    for name, shown in example.items():
        assert shape_of(plan[name]) == shape_of(shown), name


def test_what_can_be_rented_is_as_documented() -> None:
    text = (REPOSITORY / "docs" / "json.md").read_text()
    (body,) = [block.body for block in blocks(text) if block.options.get("shape") == "Found"]
    found = Offers((replace(ONE, score=7),), (UnreadRegion("aws", "eu-west-1", "you are not authorized"),))

    assert shape_of(offers_document(found)) == shape_of(json.loads(body))


def test_what_is_said_of_the_spot_market_is_as_documented() -> None:
    text = (REPOSITORY / "docs" / "json.md").read_text()
    shapes = {
        block.options["shape"]: json.loads(block.body) for block in blocks(text) if "shape" in block.options
    }

    def names(kind: type) -> list[str]:
        return [field.name for field in dataclasses.fields(kind)]

    assert list(shapes["PoolPrices"]) == names(PoolPrices)
    assert list(shapes["PoolPrices"]["history"][0]) == names(PricePoint)
    assert list(shapes["PoolAdvice"]) == names(PoolAdvice)
    assert list(shapes["PoolAdvice"]["seen"]) == names(PoolSummary)


def shape_of(value: object) -> object:
    """The keys of a document, all the way down."""
    if isinstance(value, dict):
        return {key: shape_of(entry) for key, entry in value.items()}
    return [shape_of(entry) for entry in value] if isinstance(value, list) else None


def test_every_key_of_the_configuration_is_documented() -> None:
    documented = [row[0].strip("`") for row in rows("configuration.md", "Keys")]
    assert sorted(documented) == sorted(rules())


def test_the_reference_of_commands_is_current() -> None:
    done = subprocess.run(
        [sys.executable, REPOSITORY / "scripts" / "commands_reference.py", "--check"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, f"run scripts/commands_reference.py\n{done.stdout}{done.stderr}"
