"""``runctl resources``, with an account that a test makes up."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from runctl.core.clock import SystemClock
from runctl.core.errors import PermissionDenied, Unsupported
from runctl.core.tags import EXPIRES_AT
from runctl.providers import registry
from runctl.providers.abilities.inventory import Resource, ResourceKind, Unread
from runctl.providers.abilities.prices import FreePrices
from tests.cleanup.account import Account
from tests.cleanup.resources import a_resource
from tests.cli.conftest import Invoke, data_of, error_of
from tests.cli.fake_provider import FakeProvider, Script

K = ResourceKind
OLD = SystemClock().now() - timedelta(days=2)


def a_thing(kind: ResourceKind, identifier: str, **changes: object) -> Resource:
    return a_resource(kind, identifier, created_at=OLD, age=None, **changes)


MACHINE = a_thing(K.INSTANCE, "i-1", name="digits", state="running", market="on-demand", type="m5.large")
LEFT = a_thing(K.INSTANCE, "i-2", state="running", market="spot", tags={EXPIRES_AT: "2026-01-01T00:00:00Z"})
DISK = a_thing(K.VOLUME, "vol-1", name="data", size_bytes=1 << 30)
THEIRS = a_thing(K.VOLUME, "vol-2", owner="bob")
DEAD = Unread("aws", "eu-west-1", "volumes", "nobody answers", "unreachable")
ONE = ("--provider", "aws")

Have = Callable[..., Account]


@pytest.fixture
def have(script: Script, monkeypatch: pytest.MonkeyPatch) -> Have:
    """The account of every provider has these."""

    def put(*resources: Resource, unread: tuple[Unread, ...] = ()) -> Account:
        account = Account(*resources, unread=unread)
        provider = FakeProvider(script)
        provider.inventory = account
        provider.prices = FreePrices("a test")
        provider.renting = Unsupported("nobody keeps account of these machines")
        monkeypatch.setattr(registry, "load", lambda _name, _config, progress: provider)
        return account

    return put


def test_a_list_is_of_the_callers_own(have: Have, invoke: Invoke) -> None:
    have(MACHINE, DISK, THEIRS)

    own = data_of(invoke("resources", "list", *ONE, "--output", "json"))
    everyones = data_of(invoke("resources", "list", *ONE, "--everyone", "--output", "json"))

    assert [each["id"] for each in own["resources"]] == ["i-1", "vol-1"]
    assert own["resources"][1]["price_per_month"] is None
    assert [each["id"] for each in everyones["resources"]] == ["i-1", "vol-1", "vol-2"]


def test_an_empty_list_says_whether_there_is_anything_else(have: Have, invoke: Invoke) -> None:
    have(MACHINE, DISK)
    other = invoke("resources", "list", *ONE, "--state", "runing")
    assert other.stderr.strip().endswith("nothing of what runctl has made is like that; 2 resources are not")
    have(MACHINE)
    other = invoke("resources", "list", *ONE, "--state", "runing")
    assert other.stderr.strip().endswith("is like that; 1 resource is not")
    have()
    assert "nothing that runctl has made is there" in invoke("resources", "list", *ONE).stderr


def test_a_list_is_written_in_each_format(have: Have, invoke: Invoke) -> None:
    have(DISK, MACHINE)
    chosen = ("resources", "list", *ONE, "--sort", "name", "--limit", "1", "--format")
    (row,) = csv.DictReader(io.StringIO(invoke(*chosen, "csv").stdout))
    assert (row["id"], json.loads(invoke(*chosen, "json").stdout)["resources"][0]["id"]) == ("vol-1", "vol-1")
    assert "vol-1" in (page := invoke(*chosen, "html").stdout) and page.startswith("<!doctype html>")


def test_a_list_can_be_put_together_by_what_things_have_in_common(have: Have, invoke: Invoke) -> None:
    have(DISK, MACHINE, a_thing(K.VOLUME, "vol-3", project="digits"))

    text = invoke("resources", "list", *ONE, "--group-by", "project").output
    ids = invoke("resources", "list", *ONE, "--group-by", "kind", "--sort", "name", "--quiet").output.split()

    assert [line for line in text.splitlines() if line.startswith("project ")] == [
        "project -: 2 resources, $0.00+ a month",
        "project digits: 1 resource",
    ]
    assert ids == ["i-1", "vol-1", "vol-3"]


def test_what_could_not_be_read_is_said_and_ends_with_1(have: Have, invoke: Invoke) -> None:
    have(DISK, unread=(DEAD,))

    for command in (["list"], ["summary"], ["export"], ["cleanup", "--dry-run"], ["stop-all", "--dry-run"]):
        result = invoke("resources", *command, *ONE)
        assert result.exit_code == 1, command
        assert "volumes in eu-west-1 could not be read: nobody answers" in result.stderr
        assert "not complete" in result.stderr
    (unread,) = json.loads(invoke("resources", "list", *ONE, "--output", "json").stdout)["unread"]
    assert unread["code"] == "unreachable"


def test_an_empty_list_with_a_hole_is_not_called_empty(have: Have, invoke: Invoke) -> None:
    have(unread=(DEAD,))

    assert "nothing that runctl has made" not in invoke("resources", "list", *ONE).stderr


def test_a_cleanup_shows_why_and_asks(have: Have, invoke: Invoke) -> None:
    account = have(MACHINE, LEFT, DISK, THEIRS)

    result = invoke("resources", "cleanup", *ONE)

    assert result.exit_code == 2
    assert "it was to end itself at 2026-01-01T00:00:00Z" in result.stderr
    assert "3 resources stay (2 wanted, 1 not-yours)" in result.stderr
    assert "Remove 1 resource" in result.stderr
    assert account.removed == []


def test_a_dry_run_shows_what_stays_and_why(have: Have, invoke: Invoke) -> None:
    account = have(MACHINE, LEFT, DISK, THEIRS)

    plan = data_of(invoke("resources", "cleanup", *ONE, "--dry-run", "--output", "json"))

    assert [each["id"] for each in plan["remove"]] == ["i-2"]
    assert {each["id"]: each["kept"] for each in plan["keep"]} == {
        "i-1": "wanted",
        "vol-1": "wanted",
        "vol-2": "not-yours",
    }
    assert account.removed == []


def test_a_cleanup_removes_what_its_plan_says_and_nothing_else(have: Have, invoke: Invoke) -> None:
    account = have(MACHINE, LEFT, DISK, THEIRS)

    done = data_of(invoke("resources", "cleanup", *ONE, "--yes", "--output", "json"))

    assert [each["id"] for each in done["done"]] == account.removed == ["i-2"]
    again = invoke("resources", "cleanup", *ONE, "--yes")
    assert (again.exit_code, again.stdout) == (0, "nothing to remove\n")


def test_a_failure_is_listed_with_its_reason_and_again_finishes_it(have: Have, invoke: Invoke) -> None:
    account = have(LEFT, DISK)
    account.errors["i-2"] = [PermissionDenied("not allowed to TerminateInstances")]
    told = ("resources", "cleanup", *ONE, "--include", "volumes", "--yes")

    first = invoke(*told, "--output", "json")
    second = invoke(*told)

    assert first.exit_code == 1
    done = json.loads(first.stdout)
    assert [each["id"] for each in done["done"]] == ["vol-1"]
    assert [(each["id"], each["code"]) for each in done["failed"]] == [("i-2", "permission")]
    assert "instance i-2 is as it was: not allowed to TerminateInstances" in first.stderr
    assert (second.exit_code, account.existing) == (0, set())


def test_a_name_that_nothing_has_is_refused_before_anything_is_done(have: Have, invoke: Invoke) -> None:
    account = have(LEFT, DISK)

    error = error_of(invoke("resources", "cleanup", "dat", *ONE, "--yes", "--quiet", "--output", "json"))

    assert error["code"] == "resource-not-found"
    assert "data" in error["hint"]
    assert account.removed == []


def test_stopping_all_asks_and_stops(have: Have, invoke: Invoke) -> None:
    account = have(LEFT, THEIRS)

    assert invoke("resources", "stop-all", *ONE).exit_code == 2
    assert account.removed == []
    done = invoke("resources", "stop-all", *ONE, "--yes")
    assert done.exit_code == 0, done.stderr
    assert account.removed == ["i-2"]


def test_what_somebody_else_made_is_taken_over_with_its_disk_after_a_yes(have: Have, invoke: Invoke) -> None:
    machine = a_thing(K.INSTANCE, "i-9", owner="bob", state="stopped")
    disk = a_thing(K.VOLUME, "vol-9", owner="bob", attached_to=("i-9",), ends_with="i-9")
    account = have(machine, disk, THEIRS)

    asked = invoke("resources", "adopt", "i-9", *ONE)
    done = data_of(invoke("resources", "adopt", "i-9", *ONE, "--yes", "--output", "json"))

    assert asked.exit_code == 2
    assert "it belongs to bob" in asked.stderr
    assert done == {"resources": ["i-9", "vol-9"], "runs": [], "failed": []}
    assert {each.id: each.owner for each in account.resources} == {
        "i-9": "ada",
        "vol-9": "ada",
        "vol-2": "bob",
    }


@pytest.mark.parametrize(
    ("name", "hint"), [("vol-2x", 'did you mean "vol-2"?'), ("nope", "by its id, in the region where it is")]
)
def test_what_cannot_be_taken_over_is_not_there_at_all(
    have: Have, invoke: Invoke, name: str, hint: str
) -> None:
    have(THEIRS)

    error = error_of(invoke("resources", "adopt", name, *ONE, "--quiet", "--output", "json"))

    assert (error["code"], error["message"]) == (
        "resource-not-found",
        f"there is nothing that is called '{name}'",
    )
    assert hint in error["hint"]


def test_without_a_name_nothing_of_somebody_elses_is_taken_over(have: Have, invoke: Invoke) -> None:
    have(THEIRS)

    plan = data_of(invoke("resources", "adopt", *ONE, "--dry-run", "--output", "json"))

    assert (plan["take_over"], plan["ask"]) == ([], [])


def test_details_say_whose_it_is_and_what_a_cleanup_makes_of_it(have: Have, invoke: Invoke) -> None:
    have(DISK, THEIRS)

    shown = data_of(invoke("resources", "show", "vol-2", *ONE, "--output", "json"))

    assert (shown["owner"], shown["removable"], shown["why"]) == ("bob", False, "it belongs to bob")


@pytest.mark.parametrize(
    "command", [("resources", "list", *ONE), ("resources", "export", *ONE), ("cost", "report")], ids=" ".join
)
@pytest.mark.parametrize("form", ["csv", "html"])
def test_another_format_than_json_contradicts_json(
    have: Have, invoke: Invoke, command: tuple[str, ...], form: str
) -> None:
    have(DISK)

    refused = invoke(*command, "--format", form, "--output", "json")

    assert refused.exit_code == 2
    assert error_of(refused)["message"] == f"--format {form} and --output json contradict each other"


def test_an_export_as_json_is_json_and_a_file_is_as_it_was_asked_for(
    have: Have, invoke: Invoke, tmp_path: Path
) -> None:
    have(DISK)
    table = tmp_path / "resources.csv"

    exported = data_of(invoke("resources", "export", *ONE, "--output", "json"))
    written = invoke("resources", "export", "--format", "csv", "--to", str(table), *ONE, "--output", "json")

    assert [each["id"] for each in exported["resources"]] == ["vol-1"]
    assert data_of(written)["resources"] == 1
    assert table.read_text().startswith("kind,")


def test_an_export_is_a_file_of_its_kind(have: Have, invoke: Invoke, tmp_path: Path) -> None:
    have(MACHINE, DISK)

    rows = list(csv.DictReader(io.StringIO(invoke("resources", "export", *ONE).stdout)))
    page = tmp_path / "resources.html"
    written = invoke("resources", "export", "--format", "html", "--to", str(page), *ONE)

    assert [row["id"] for row in rows] == ["i-1", "vol-1"]
    assert written.exit_code == 0
    assert "vol-1" in page.read_text()


def test_an_unknown_provider_is_a_usage_error(have: Have, invoke: Invoke) -> None:
    have()

    result = invoke("resources", "list", "--provider", "awss")

    assert result.exit_code == 2
    assert "'awss' is not a provider" in result.stderr
