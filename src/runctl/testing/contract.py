"""What every provider must do, as tests: subclass, give the fixtures, and pytest runs them against yours.

::

    class TestMyProvider(RentingContract):
        @pytest.fixture
        def provider(self) -> Provider:
            return my_provider(Config())

`ProviderContract` holds for every provider, `RentingContract` for those that create machines, `MachineContract` for
those whose machines (or stand-ins) can really be reached; `volume_contract` has those about volumes. What the tests
create, they end.
"""

# ruff: noqa: S101 (tests assert)
from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import replace
from datetime import timedelta
from pathlib import PurePosixPath

import pytest

from runctl.core.errors import NotFound, PermissionDenied, Unsupported
from runctl.core.ids import InstanceId
from runctl.core.models import Instance, InstanceState
from runctl.core.tags import is_ours
from runctl.providers.interface import (
    Capability,
    CreatePlan,
    DoctorStatus,
    InstanceRequest,
    Provider,
    VolumeProvider,
)

READY_TIMEOUT = timedelta(minutes=3)


class ProviderContract:
    """What holds for every provider."""

    @pytest.fixture
    def provider(self) -> Provider:
        """The provider under test."""
        raise NotImplementedError("a subclass gives the fixture `provider`")

    @pytest.fixture
    def unknown_instance(self) -> InstanceId:
        """An id of the right shape that no instance has."""
        return InstanceId("i-00000000000000000")

    def test_every_capability_is_there_or_the_reason_is_stated(self, provider: Provider) -> None:
        stated = provider.capabilities()
        assert set(stated) == set(Capability)
        for reason in stated.values():
            assert reason is None or reason.message

    def test_block_volumes_are_claimed_exactly_by_volume_providers(self, provider: Provider) -> None:
        has_volumes = provider.capabilities()[Capability.VOLUMES] is None
        assert has_volumes == isinstance(provider, VolumeProvider)

    def test_an_unknown_instance_is_not_found(self, provider: Provider, unknown_instance: InstanceId) -> None:
        with pytest.raises(NotFound):
            provider.instance(unknown_instance)

    def test_an_unknown_instance_cannot_be_terminated(
        self, provider: Provider, unknown_instance: InstanceId
    ) -> None:
        with pytest.raises(NotFound):
            provider.terminate(unknown_instance)

    def test_instances_are_listed_newest_first_and_carry_the_providers_name(self, provider: Provider) -> None:
        listed = provider.instances(everyone=True, include_ended=True)
        assert [i.created_at for i in listed] == sorted((i.created_at for i in listed), reverse=True)
        assert {i.provider for i in listed} <= {provider.name}
        assert all(i.created_at.tzinfo is not None for i in listed)

    def test_the_doctor_never_raises_and_names_a_fix_for_what_failed(self, provider: Provider) -> None:
        checks = provider.doctor()
        assert checks
        for check in checks:
            assert check.name and check.detail
            if check.status is DoctorStatus.FAILED:
                assert check.fix, f"{check.name} failed without a fix: {check.detail}"

    def test_stopping_where_it_cannot_be_done_is_unsupported_and_says_why(self, provider: Provider) -> None:
        if provider.capabilities()[Capability.STOP_AND_START] is None:
            return
        for instance in provider.instances(everyone=True):
            for verb in (provider.stop, provider.start):
                with pytest.raises(Unsupported):
                    verb(instance.id)


class RentingContract(ProviderContract):
    """What holds for providers that create machines."""

    @pytest.fixture
    def instance_request(self) -> InstanceRequest:
        """A machine that is cheap to create."""
        return InstanceRequest()

    @pytest.fixture
    def foreign_instance(self) -> InstanceId:
        """An instance in the account that runctl did not create."""
        raise NotImplementedError("a subclass gives the fixture `foreign_instance`")

    @pytest.fixture
    def launch(self, provider: Provider) -> Generator[Callable[[InstanceRequest], Instance]]:
        """Plan and create; what was created is terminated after the test."""
        created: list[InstanceId] = []

        def plan_and_create(request: InstanceRequest) -> Instance:
            instance = provider.create(provider.plan_create(request))
            created.append(instance.id)
            return instance

        yield plan_and_create
        for instance_id in created:
            provider.terminate(instance_id)

    def test_planning_creates_nothing(self, provider: Provider, instance_request: InstanceRequest) -> None:
        before = {instance.id for instance in provider.instances(everyone=True, include_ended=True)}
        provider.plan_create(instance_request)
        assert {i.id for i in provider.instances(everyone=True, include_ended=True)} == before

    def test_a_plan_decides_everything_and_says_where_its_prices_come_from(
        self, provider: Provider, instance_request: InstanceRequest
    ) -> None:
        plan = provider.plan_create(instance_request)
        assert plan.provider == provider.name
        assert plan.instance_type and plan.image and plan.login_user and plan.client_token
        assert plan.zone_reason and plan.image_reason
        prices = [plan.price, plan.on_demand_price, *plan.volume_prices.values()]
        assert all(price is None or (price.usd >= 0 and price.source) for price in prices)

    def test_two_plans_have_different_tokens(
        self, provider: Provider, instance_request: InstanceRequest
    ) -> None:
        tokens = {provider.plan_create(instance_request).client_token for _ in range(2)}
        assert len(tokens) == 2

    def test_what_is_created_is_ours_and_in_the_list(
        self,
        provider: Provider,
        instance_request: InstanceRequest,
        launch: Callable[[InstanceRequest], Instance],
    ) -> None:
        instance = launch(replace(instance_request, project="contract"))
        assert is_ours(instance.tags)
        assert instance.project == "contract"
        assert instance.owner
        assert instance.id in {listed.id for listed in provider.instances()}
        assert provider.instance(instance.id).id == instance.id

    def test_the_same_plan_twice_makes_one_instance(
        self, provider: Provider, instance_request: InstanceRequest
    ) -> None:
        plan = provider.plan_create(instance_request)
        first = provider.create(plan)
        try:
            assert provider.create(plan).id == first.id
        finally:
            provider.terminate(first.id)

    def test_terminating_is_idempotent_and_takes_the_instance_off_the_list(
        self,
        provider: Provider,
        instance_request: InstanceRequest,
        launch: Callable[[InstanceRequest], Instance],
    ) -> None:
        instance = launch(instance_request)
        assert provider.terminate(instance.id).state.is_over
        assert provider.terminate(instance.id).state.is_over
        assert instance.id not in {listed.id for listed in provider.instances()}
        assert instance.id in {listed.id for listed in provider.instances(include_ended=True)}

    def test_what_others_created_is_neither_listed_nor_terminated(
        self, provider: Provider, foreign_instance: InstanceId
    ) -> None:
        assert foreign_instance not in {listed.id for listed in provider.instances()}
        assert foreign_instance in {listed.id for listed in provider.instances(everyone=True)}
        with pytest.raises(PermissionDenied) as refused:
            provider.terminate(foreign_instance)
        assert refused.value.code == "not-ours"
        assert not provider.instance(foreign_instance).state.is_over

    def test_a_type_that_does_not_exist_is_not_found(
        self, provider: Provider, instance_request: InstanceRequest
    ) -> None:
        with pytest.raises(NotFound):
            provider.plan_create(replace(instance_request, instance_type="no.such-type"))

    def test_a_plan_is_a_value(self, provider: Provider, instance_request: InstanceRequest) -> None:
        plan: CreatePlan = provider.plan_create(instance_request)
        with pytest.raises(AttributeError):
            plan.market = plan.market  # type: ignore[misc]


class MachineContract:
    """What holds of a machine that can really be reached."""

    @pytest.fixture
    def ready(self) -> tuple[Provider, Instance]:
        """The provider, and an instance for which `wait_ready` has returned."""
        raise NotImplementedError("a subclass gives the fixture `ready`")

    def test_a_ready_machine_runs_and_can_be_waited_for_again(self, ready: tuple[Provider, Instance]) -> None:
        provider, instance = ready
        assert instance.state is InstanceState.RUNNING
        assert provider.wait_ready(instance.id, timeout=READY_TIMEOUT).id == instance.id

    def test_commands_run_with_their_arguments_exact_and_their_exit_code(
        self, ready: tuple[Provider, Instance]
    ) -> None:
        provider, instance = ready
        transport = provider.transport(instance)
        done = transport.run(["sh", "-c", 'printf %s "$1"; exit 7', "sh", "a b\n$HOME 'q'"])
        assert (done.exit_code, done.stdout) == (7, b"a b\n$HOME 'q'")

    def test_the_machine_has_what_the_agent_needs_and_the_agent_answers(
        self, ready: tuple[Provider, Instance]
    ) -> None:
        provider, instance = ready
        agent = provider.agent(instance)
        assert agent.version()["protocol"]
        assert agent.attempts() == ()

    def test_a_transport_that_the_provider_does_not_have_is_unsupported(
        self, ready: tuple[Provider, Instance]
    ) -> None:
        provider, instance = ready
        with pytest.raises(Unsupported):
            provider.transport(instance, "carrier-pigeon")

    def test_files_go_there_and_come_back(
        self, ready: tuple[Provider, Instance], tmp_path_factory: pytest.TempPathFactory
    ) -> None:
        provider, instance = ready
        transport = provider.transport(instance)
        folder = transport.run(["mktemp", "-d"]).stdout.decode().strip()
        target, content = PurePosixPath(folder) / "file", bytes(range(256)) * 100
        transport.put(content, target)
        copy = tmp_path_factory.mktemp("contract") / "copy"
        with copy.open("wb") as sink:
            assert transport.get(target, sink) == len(content)
        assert copy.read_bytes() == content
        transport.run(["rm", "-r", folder])
