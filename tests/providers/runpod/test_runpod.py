"""What RunPod's provider decides without asking anybody."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest

from runctl.core.clock import SystemClock
from runctl.core.errors import (
    CapacityError,
    Conflict,
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
from runctl.core.journal import Journal
from runctl.core.machine_models import InstanceState, Market
from runctl.core.tags import INTENT, NAME
from runctl.providers.abilities.catalogue import OfferQuery
from runctl.providers.capacity import Needs, Pool
from runctl.providers.instance_plans import InstanceRequest
from runctl.providers.interface import DoctorStatus
from runctl.providers.labels import label_of
from runctl.providers.rest import Answer
from runctl.providers.runpod.api import (
    DataCentre,
    Funds,
    Gpu,
    GpuCount,
    GpuPrice,
    GpuStock,
    GpuType,
    Mounts,
    NetworkMount,
    NetworkVolume,
    Pod,
    Runtime,
    Ssh,
    SshDoor,
    refused,
)
from runctl.providers.runpod.catalogue import ANYWHERE, choose
from runctl.providers.runpod.context import RunPodContext
from runctl.providers.runpod.machines import LABEL, instance_of, lost_its_gpus, pod_tags, state_of
from runctl.providers.runpod.money import funds_check, funds_warnings
from runctl.providers.runpod.offers import RunPodOffers
from runctl.providers.runpod.settings import BASE_URL, RunPodConfig, find_account
from runctl.providers.runpod.volumes import check_data_centre, price_of, volume_of

NOW = datetime(2026, 8, 1, 12, tzinfo=UTC)
TOKEN = "0123456789abcdef" * 2


def gpu(
    gpu_id: str, name: str, memory: int, secure: str, community: str | None, stock: str = "HIGH"
) -> GpuType:
    return GpuType(
        gpu_id,
        name,
        memory,
        secure=True,
        community=community is not None,
        price=GpuPrice(Decimal(secure), Decimal(community) if community else None),
        maxCount=GpuCount(8, 4),
        availability=stock,
        dataCenters=(GpuStock("EU-RO-1", stock),),
    )


GPUS = (
    gpu("NVIDIA GeForce RTX 4090", "RTX 4090", 24, "0.44", "0.31"),
    gpu("NVIDIA A100 80GB PCIe", "A100 PCIe", 80, "1.39", "1.19"),
    gpu("NVIDIA A100-SXM4-80GB", "A100 SXM", 80, "1.49", None),
    gpu("NVIDIA RTX A5000", "RTX A5000", 24, "0.27", "0.16", "NONE"),
)


def types(request: InstanceRequest, cloud: str = "secure") -> list[str]:
    return [offer.pool.instance_type for offer in choose(request, GPUS, cloud, NOW, None).offers]


def test_a_type_is_named_by_its_slug_its_name_or_runpods_id() -> None:
    for name in ("rtx-4090", "RTX 4090", "NVIDIA GeForce RTX 4090", "rtx-4090.1x"):
        assert types(InstanceRequest(instance_type=name)) == ["rtx-4090.1x"]
    for name in ("a100-pcie", "A100 PCIe", "a100-80gb-pcie", "NVIDIA A100 80GB PCIe"):
        assert types(InstanceRequest(instance_type=name)) == ["a100-80gb-pcie.1x"]
    # A pod says no more than the id.
    for gpu in GPUS:
        pod = Pod("1", "n", "RUNNING", gpu=Gpu(gpu.id, 2))
        (again,) = types(InstanceRequest(instance_type=instance_of(pod).instance_type))
        assert again == instance_of(pod).instance_type
    (offer,) = choose(InstanceRequest(instance_type="rtx-4090.2x"), GPUS, "community", NOW, None).offers
    assert offer.price is not None
    assert (offer.price.usd, offer.pool) == (Decimal("0.62"), Pool("rtx-4090.2x", ANYWHERE))


def test_needs_are_met_by_the_cheapest_first_and_what_has_no_stock_last() -> None:
    assert types(InstanceRequest(needs=Needs(gpu_memory_gb=24))) == [
        *("rtx-4090.1x", "a100-80gb-pcie.1x", "a100-sxm4-80gb.1x", "rtx-a5000.1x"),
    ]
    assert types(InstanceRequest(needs=Needs(gpu="A100", gpu_count=2))) == [
        "a100-80gb-pcie.2x",
        "a100-sxm4-80gb.2x",
    ]
    assert types(InstanceRequest(needs=Needs(gpu="A100", gpu_count=2)), "community") == ["a100-80gb-pcie.2x"]
    elsewhere = InstanceRequest(needs=Needs(gpu="A100"), zone="US-KS-2")
    assert all(offer.last for offer in choose(elsewhere, GPUS, "secure", NOW, None).offers)


def test_a_price_limit_and_a_pool_that_has_just_failed_are_heeded() -> None:
    assert types(InstanceRequest(needs=Needs(gpu="A100"), max_price=Decimal("1.40"))) == ["a100-80gb-pcie.1x"]
    failed = InstanceRequest(needs=Needs(gpu="A100"), avoid=(Pool("a100-80gb-pcie.1x", ANYWHERE),))
    assert types(failed) == ["a100-sxm4-80gb.1x", "a100-80gb-pcie.1x"]


@pytest.mark.parametrize(
    ("request_", "cloud", "error", "words"),
    [
        (InstanceRequest(), "secure", UsageError, "no instance type"),
        (InstanceRequest(instance_type="rtx-409"), "secure", NotFound, "no GPU 'rtx-409'"),
        (InstanceRequest(instance_type="no.such-type"), "secure", NotFound, "no GPU"),
        (InstanceRequest(instance_type="rtx-4090.0x"), "secure", NotFound, "no GPU"),
        (InstanceRequest(instance_type="rtx-4090.8x"), "community", NotFound, "no pod with 8 RTX 4090"),
        (InstanceRequest(instance_type="a100-sxm"), "community", NotFound, "community cloud"),
        (InstanceRequest(instance_type="rtx-4090", needs=Needs(gpu="A100")), "secure", UsageError, "needs"),
        (InstanceRequest(needs=Needs(gpu="RTX 4090", cpus=4)), "secure", UsageError, "how many CPUs"),
        (InstanceRequest(needs=Needs(gpu="A10G")), "secure", NotFound, "what is needed"),
        (InstanceRequest(needs=Needs(gpu="RTX")), "secure", NotFound, "what is needed"),
        (
            InstanceRequest(instance_type="rtx-4090", max_price=Decimal("0.1")),
            "secure",
            CapacityError,
            "costs",
        ),
    ],
)
def test_what_cannot_be_had_is_said(
    request_: InstanceRequest, cloud: str, error: type[RunctlError], words: str
) -> None:
    with pytest.raises(error, match=words) as caught:
        choose(request_, GPUS, cloud, NOW, None)
    assert caught.value.hint


DIRECT = Ssh(SshDoor("195.26.233.3", 34446))


@pytest.mark.parametrize(
    ("status", "ssh", "state"),
    [
        ("PROVISIONING", None, InstanceState.PENDING),
        ("STARTING", DIRECT, InstanceState.PENDING),
        ("RUNNING", Ssh(None), InstanceState.PENDING),
        ("RUNNING", DIRECT, InstanceState.RUNNING),
        ("MIGRATING", DIRECT, InstanceState.RUNNING),
        ("EXITED", None, InstanceState.STOPPED),
        ("ERROR", None, InstanceState.STOPPED),
        ("TERMINATED", None, InstanceState.TERMINATED),
    ],
)
def test_a_pod_runs_when_there_is_a_way_in(status: str, ssh: Ssh | None, state: InstanceState) -> None:
    assert state_of(Pod("1", "n", status, ssh=ssh)) is state


def test_a_pod_is_ours_where_its_name_and_its_label_agree() -> None:
    label = label_of({INTENT: TOKEN, NAME: "mine"})
    ours = Pod("1", f"runctl-{TOKEN}", "RUNNING", env={LABEL: label}, ssh=DIRECT, cost=Decimal("0.44"))
    assert pod_tags(ours)[NAME] == "mine"
    assert instance_of(ours).price_per_hour == Decimal("0.44")
    for name, env in (
        (f"runctl-{TOKEN[1:]}0", {LABEL: label}),
        (f"runctl-{TOKEN}", {}),
        ("mine", {LABEL: label}),
    ):
        assert pod_tags(Pod("1", name, "RUNNING", env=env)) == {}


def test_a_pod_without_its_gpus_is_told_from_one_that_has_not_reported_yet() -> None:
    pod = Pod("1", "n", "RUNNING", gpu=Gpu("x", 2), runtime=Runtime(gpus=()))
    assert lost_its_gpus(pod)
    for runtime in (None, Runtime(), Runtime(gpus=({}, {}))):
        assert not lost_its_gpus(Pod("1", "n", "RUNNING", gpu=Gpu("x", 2), runtime=runtime))


def test_a_key_is_found_in_the_variable_then_in_either_dialect_of_the_vendors_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    file = tmp_path / ".runpod" / "config.toml"
    file.parent.mkdir()
    settings = RunPodConfig()
    with pytest.raises(CredentialsError):
        find_account(settings, {"RUNPOD_API_KEY": " "})
    file.write_text('[default]\napi_key = "rpa_python"\n')
    assert find_account(settings, {}).key == "rpa_python"
    file.write_text('apikey = "rpa_ctl"\n[default]\napi_key = "rpa_python"\n')
    assert find_account(settings, {}).key == "rpa_ctl"
    own = find_account(settings, {"RUNPOD_API_KEY": "rpa_own"})
    assert (own.key, own.base_url) == ("rpa_own", BASE_URL)
    assert "rpa_own" not in repr(own)


@pytest.mark.parametrize(
    ("status", "body", "error", "code"),
    [
        (401, '{"detail":"missing bearer token"}', CredentialsError, "credentials"),
        (403, "error code: 1010", ProviderError, "provider"),
        (403, '{"detail":"access denied"}', PermissionDenied, "permission"),
        (402, "{}", QuotaExceeded, "no-credit"),
        (404, '{"detail":"resource not found"}', NotFound, "instance-not-found"),
        (409, "{}", Conflict, "conflict"),
        (429, '{"detail":"rate limit exceeded"}', ProviderError, "throttled"),
        (
            400,
            '{"detail":"There are no longer any instances available with x"}',
            CapacityError,
            "no-capacity",
        ),
        (400, '{"detail":"There are not enough free GPUs on the host"}', CapacityError, "no-capacity"),
        (400, '{"detail":"Data center X not found"}', UsageError, "usage"),
        (422, '{"detail":"invalid","errors":["$: x not allowed"]}', UsageError, "usage"),
        (503, "<html>down</html>", Unreachable, "unreachable"),
    ],
)
def test_a_refusal_is_decided_by_its_status_and_its_words(
    status: int, body: str, error: type[RunctlError], code: str
) -> None:
    found = refused(Answer(status, body.encode(), "abc"), "do that")
    assert (type(found), found.code) == (error, code)
    assert "abc" in found.message
    assert "<html>" not in found.message


def test_offers_are_of_both_clouds_and_kept_for_a_moment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RUNPOD_API_KEY", "rpa_own")
    context = RunPodContext(RunPodConfig(), SystemClock(), tmp_path, Journal())
    asked: list[int] = []

    def gpus() -> tuple[GpuType, ...]:
        asked.append(1)
        return GPUS

    monkeypatch.setattr(context.api, "gpus", gpus)
    offers = RunPodOffers(context, tmp_path / "cache")
    query = OfferQuery(Needs(gpu="A100", gpu_count=2))
    for _ in range(2):
        found = offers.offers(query).offers
        assert [(each.region, each.instance_type, each.price.usd) for each in found] == [
            ("secure", "a100-80gb-pcie.2x", Decimal("2.78")),
            ("secure", "a100-sxm4-80gb.2x", Decimal("2.98")),
            ("community", "a100-80gb-pcie.2x", Decimal("2.38")),
        ]
    assert asked == [1]
    assert offers.offers(replace(query, regions=("community",))).offers == found[2:]
    for never, reason in (
        (replace(query, market=Market.SPOT), "on demand only"),
        (
            replace(query, regions=("us-east-1",)),
            "no region us-east-1: it has the clouds secure and community",
        ),
        (OfferQuery(Needs(cpus=2)), "does not tell how many CPUs"),
    ):
        with pytest.raises(Unsupported, match=reason):
            offers.offers(never)


CENTRES = (DataCentre("EU-RO-1", ("STANDARD",)), DataCentre("US-KS-2", ("STANDARD", "HIGH_PERFORMANCE")))


def test_a_network_volume_is_priced_by_its_size_and_an_unknown_price_is_not_guessed() -> None:
    prices = {size: price_of("standard", size, NOW) for size in (10, 1000, 1100)}
    assert {size: rate and rate.usd for size, rate in prices.items()} == {
        10: Decimal("0.70"),
        1000: Decimal("70.00"),
        1100: Decimal("75.00"),
    }
    assert price_of("high-performance", 10, NOW) is None


def test_the_data_centre_of_a_network_volume_is_chosen_by_the_user_among_those_that_have_them() -> None:
    centres = (*CENTRES, DataCentre("EU-NL-1", ()))
    assert check_data_centre("US-KS-2", None, centres) == "standard"
    assert check_data_centre("US-KS-2", "high-performance", centres) == "high-performance"
    with pytest.raises(UsageError) as unsaid:
        check_data_centre(None, None, centres)
    assert "EU-RO-1, US-KS-2" in str(unsaid.value.hint)
    with pytest.raises(NotFound):
        check_data_centre("EU-NL-1", None, centres)
    with pytest.raises(UsageError):
        check_data_centre("EU-RO-1", "high-performance", centres)


def test_a_network_volume_knows_its_name_and_the_pods_that_have_it() -> None:
    label = label_of({INTENT: TOKEN, NAME: "datasets"})
    pods = [
        Pod("a", "one", "RUNNING", mounts=Mounts((NetworkMount("vol1", "/data"),))),
        Pod("b", "two", "RUNNING", mounts=Mounts()),
        Pod("c", "three", "EXITED", mounts=Mounts((NetworkMount("vol1", "/workspace"),))),
    ]
    ours = volume_of(NetworkVolume("vol1", label, 20, "EU-RO-1"), pods, NOW)
    assert (ours.name, ours.instances, ours.mount_point) == ("datasets", ("a", "c"), "/data")
    theirs = volume_of(NetworkVolume("vol2", "theirs", 20, "EU-RO-1"), pods, NOW)
    assert (theirs.name, theirs.instances, theirs.tags) == ("theirs", (), {NAME: "theirs"})


def test_the_doctor_and_the_plan_say_how_long_the_balance_lasts() -> None:
    funds = Funds(Decimal(12), Decimal("0.5"), Decimal(80))
    assert funds_check(Funds()).status is DoctorStatus.SKIPPED
    assert funds_check(funds).detail == (
        "$12.00; $0.5000 an hour is spent now; at most $80.00 an hour may be; enough for 24 hours"
    )
    assert funds_check(Funds(Decimal(11), Decimal("0.5"))).status is DoctorStatus.WARNING
    assert funds_check(Funds(Decimal(0))).status is DoctorStatus.FAILED
    (warning,) = funds_warnings(funds, Decimal("0.5"))
    assert "$12.00 lasts for 12.0 hours with this pod" in warning
    assert funds_warnings(Funds(Decimal(1000), Decimal(0), Decimal(80)), Decimal(1)) == ()
    (limit,) = funds_warnings(Funds(Decimal(9000), Decimal(79), Decimal(80)), Decimal(2))
    assert "the account's limit is $80.00" in limit
    assert funds_warnings(Funds(), Decimal(2)) == ()
