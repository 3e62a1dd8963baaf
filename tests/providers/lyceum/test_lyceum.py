"""What Lyceum's provider decides without asking anybody."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from runctl.agent.checkpoint_spec import StoreKeys
from runctl.core.errors import (
    CapacityError,
    CredentialsError,
    NotFound,
    PermissionDenied,
    ProviderError,
    QuotaExceeded,
    RunctlError,
    Unreachable,
    Unsupported,
    UsageError,
)
from runctl.core.machine_models import InstanceState, Market
from runctl.providers.capacity import Needs, Pool
from runctl.providers.instance_plans import InstanceRequest
from runctl.providers.lyceum.api import Specs, StorageKeys, Variant, Vm, refused
from runctl.providers.lyceum.catalogue import ANYWHERE, choose, parse_kind
from runctl.providers.lyceum.lyceum_provider import LyceumProvider
from runctl.providers.lyceum.machines import door_of, instance_of, state_of
from runctl.providers.lyceum.settings import ORIGIN, LyceumConfig, find_account
from runctl.providers.lyceum.storage import lent_of
from runctl.providers.rest import Answer
from runctl.providers.ssh_machines import Door

NOW = datetime(2026, 8, 1, 12, tzinfo=UTC)


def variant(profile: str, market: str, price: str, stock: tuple[int, ...] = (8, 1, 4, 2)) -> Variant:
    return Variant(profile, market, Decimal(price), (1, 2, 4, 8), stock)


SOLD = (
    variant("l40s", "on-demand", "1.19"),
    variant("a100", "on-demand", "1.59"),
    variant("a100", "spot", "0.80"),
    variant("h100", "on-demand", "2.79"),
    variant("h100", "spot", "1.10", (2, 1)),
    variant("zz9", "on-demand", "0.10"),
)


def types(request: InstanceRequest, default: str | None = None) -> list[str]:
    return [offer.pool.instance_type for offer in choose(request, SOLD, NOW, default).offers]


@pytest.mark.parametrize(
    ("address", "door"),
    [
        (None, None),
        ("", None),
        ("203.0.113.10", Door("203.0.113.10", 22)),
        ("198.51.100.20:2022", Door("198.51.100.20", 2022)),
        ("198.51.100.20:99999", Door("198.51.100.20", 22)),
        ("[2001:db8::1]:2022", Door("2001:db8::1", 2022)),
        ("[2001:db8::1]", Door("2001:db8::1", 22)),
        ("2001:db8::1", Door("2001:db8::1", 22)),
    ],
)
def test_an_address_has_many_forms(address: str | None, door: Door | None) -> None:
    assert door_of(address) == door


@pytest.mark.parametrize(
    ("status", "address", "state"),
    [
        ("pending", None, InstanceState.PENDING),
        ("provisioning", None, InstanceState.PENDING),
        ("ready", None, InstanceState.PENDING),
        ("ready", "203.0.113.10", InstanceState.RUNNING),
        ("running", "203.0.113.10", InstanceState.RUNNING),
        ("hibernating", "203.0.113.10", InstanceState.RUNNING),
        ("failed", "203.0.113.10", InstanceState.TERMINATED),
        ("terminated", "203.0.113.10", InstanceState.TERMINATED),
    ],
)
def test_a_state_that_nobody_knows_counts_as_alive(
    status: str, address: str | None, state: InstanceState
) -> None:
    assert state_of(Vm("1", status, ip_address=address)) is state


def test_a_vm_that_has_shut_down_is_said_to_cost_until_it_is_ended() -> None:
    vm = Vm("1", "stopped", ip_address="203.0.113.10", instance_specs=Specs("h100", 2), instance_type="spot")
    instance = instance_of(vm, SOLD, login_user="lyceum")
    assert (instance.state, instance.price_per_hour) == (InstanceState.STOPPED, Decimal("2.20"))
    assert "until it is ended: runctl lyceum terminate 1" in (instance.state_reason or "")
    assert LyceumProvider.billing.bills_stopped


@pytest.mark.parametrize(
    ("status", "kind", "by_us", "interrupted", "reason"),
    [
        ("terminated", "spot", False, True, "Lyceum took it back (inferred: nobody here has ended it)"),
        ("terminated", "spot", True, False, "ended by runctl"),
        ("terminated", "on-demand", False, False, "ended, not from here"),
        ("failed", "spot", False, False, "Lyceum says that it failed"),
        ("error", "spot", False, False, "Lyceum says that it has an error"),
    ],
)
def test_a_spot_vm_is_taken_back_only_where_it_has_neither_failed_nor_been_ended_from_here(
    status: str, kind: str, by_us: bool, interrupted: bool, reason: str
) -> None:
    vm = Vm("1", status, instance_specs=Specs("h100", 2), instance_type=kind)
    instance = instance_of(vm, SOLD, login_user="lyceum", ended_by_us=by_us)
    assert (instance.interrupted, instance.state_reason) == (interrupted, reason)


def test_a_new_vm_says_what_it_is_in_its_specs_and_when_without_a_zone() -> None:
    vm = Vm(
        "1",
        "pending",
        created_at="2026-07-31T12:14:40.153832",
        instance_specs=Specs("h100", 2),
        instance_type="spot",
    )
    instance = instance_of(vm, SOLD, login_user="lyceum")
    assert (instance.instance_type, instance.market) == ("h100.2x", Market.SPOT)
    assert instance.price_per_hour == Decimal("2.20")
    assert instance.created_at == datetime(2026, 7, 31, 12, 14, 40, 153832, tzinfo=UTC)


def test_what_is_named_is_asked_in_that_order_and_what_has_no_stock_last() -> None:
    spot = InstanceRequest(instance_type="h100.8x", other_types=("a100", "h100.2x"), market=Market.SPOT)
    assert types(spot) == ["a100.1x", "h100.2x", "h100.8x"]


def test_needs_are_met_by_the_cheapest_first() -> None:
    assert types(InstanceRequest(needs=Needs(gpu_memory_gb=80, cpus=30))) == [
        *("h100.1x", "a100.2x", "h100.2x", "a100.4x", "h100.4x", "a100.8x", "h100.8x"),
    ]
    assert types(InstanceRequest(needs=Needs(gpu="L40S", gpu_count=4))) == ["l40s.4x", "l40s.8x"]


def test_a_price_limit_and_a_pool_that_has_just_failed_are_heeded() -> None:
    limited = InstanceRequest(needs=Needs(gpu="a100"), market=Market.SPOT, max_price=Decimal("1.60"))
    assert types(limited) == ["a100.1x", "a100.2x"]
    failed = InstanceRequest(
        instance_type="a100", other_types=("h100",), market=Market.SPOT, avoid=(Pool("a100.1x", ANYWHERE),)
    )
    assert types(failed) == ["h100.1x", "a100.1x"]


@pytest.mark.parametrize(
    ("request_", "error", "words"),
    [
        (InstanceRequest(), UsageError, "no instance type"),
        (InstanceRequest(instance_type="no.such-type"), NotFound, "not a machine of Lyceum"),
        (InstanceRequest(instance_type="h10"), NotFound, "no profile 'h10'"),
        (InstanceRequest(instance_type="h100.3x"), NotFound, "no machine with 3 h100"),
        (InstanceRequest(instance_type="h100.0x"), NotFound, "not a machine"),
        (InstanceRequest(instance_type="l40s", market=Market.SPOT), Unsupported, "not sell l40s as spot"),
        (InstanceRequest(instance_type="a100", needs=Needs(gpu="A100")), UsageError, "needs are stated"),
        (InstanceRequest(needs=Needs(gpu="A10G")), NotFound, "has what is needed"),
        (InstanceRequest(instance_type="h100", max_price=Decimal(1)), CapacityError, "costs \\$1.00 an hour"),
    ],
)
def test_what_cannot_be_had_is_said(request_: InstanceRequest, error: type[RunctlError], words: str) -> None:
    with pytest.raises(error, match=words) as caught:
        choose(request_, SOLD, NOW, None)
    assert caught.value.hint


def test_a_type_needs_no_count() -> None:
    assert str(parse_kind("H100")) == "h100.1x"


def jwt(expires: float) -> str:
    part = base64.urlsafe_b64encode(json.dumps({"exp": expires}).encode()).decode().rstrip("=")
    return f"e30.{part}.c2ln"


def test_a_key_is_found_in_the_variable_then_in_the_vendors_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    folder = tmp_path / ".lyceum"
    folder.mkdir()
    settings = LyceumConfig()
    with pytest.raises(CredentialsError, match="no key"):
        find_account(settings, {"LYCEUM_API_KEY": "  "}, NOW)

    (folder / "api_key").write_text("lk_file\n")
    assert find_account(settings, {}, NOW).token == "lk_file"
    login = jwt(NOW.timestamp() + 60)
    (folder / "config.json").write_text(
        json.dumps({"api_key": login, "base_url": "https://other.example", "active_org_slug": "lab"})
    )
    found = find_account(settings, {}, NOW)
    assert (found.token, found.base_url, found.organisation) == (login, "https://other.example", "lab")
    assert found.headers == {"Authorization": f"Bearer {login}", "X-Org-Slug": "lab"}
    assert login not in repr(found)
    own = find_account(settings, {"LYCEUM_API_KEY": "lk_own", "LYCEUM_ORG": "mine"}, NOW)
    assert (own.token, own.base_url, own.organisation) == ("lk_own", ORIGIN, "mine")

    (folder / "config.json").write_text(json.dumps({"api_key": jwt(NOW.timestamp() - 1)}))
    with pytest.raises(CredentialsError, match="expired"):
        find_account(settings, {}, NOW)


@pytest.mark.parametrize(
    ("status", "body", "error", "code"),
    [
        (401, '{"detail":"Invalid token"}', CredentialsError, "credentials"),
        (402, "{}", QuotaExceeded, "no-credit"),
        (403, '{"detail":"no"}', PermissionDenied, "permission"),
        (404, '{"detail":"VM not found"}', NotFound, "instance-not-found"),
        (429, "", ProviderError, "throttled"),
        (400, '{"detail":"Unknown hardware_profile \'x\'."}', NotFound, "instance-type-not-found"),
        (422, '{"detail":[{"loc":["body","a"],"msg":"Field required"}]}', UsageError, "usage"),
        (503, "<html>down</html>", Unreachable, "unreachable"),
    ],
)
def test_a_refusal_is_decided_by_its_status_and_its_words(
    status: int, body: str, error: type[RunctlError], code: str
) -> None:
    found = refused(Answer(status, body.encode()), "do that")
    assert (type(found), found.code) == (error, code)
    assert "<html>" not in found.message
    assert "body.a: Field required" in found.message or status != 422


def test_keys_of_the_accounts_bucket_are_read_in_every_form_that_lyceum_gives_them() -> None:
    full = StorageKeys(
        "ASIA1",
        "secret",
        "https://s3.example/",
        "token",
        bucket_name="b",
        region="eu",
        expiry="2026-08-01T13:00:00Z",
    )
    lent = lent_of(full)
    assert (lent.bucket, lent.endpoint, lent.region) == ("b", "https://s3.example", "eu")
    assert lent.keys == StoreKeys("ASIA1", "secret", "token", (NOW + timedelta(hours=1)).timestamp())
    bare = lent_of(StorageKeys("ASIA1", "secret", "s3.example", bucket="b"))
    assert (bare.bucket, bare.endpoint, bare.region) == ("b", "https://s3.example", "us-east-1")
    assert bare.keys.ends_at is None
    assert "secret" not in f"{full!r} {lent!r}"
