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

import ast
import inspect
from collections.abc import Callable, Generator, Mapping
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from importlib import import_module
from pathlib import PurePosixPath
from typing import get_args, get_type_hints

import pytest

from runctl.core.errors import NotFound, PermissionDenied, Unsupported
from runctl.core.ids import InstanceId
from runctl.core.machine_models import Instance, InstanceState
from runctl.core.tags import is_ours
from runctl.costs.rates import Per
from runctl.providers import interface
from runctl.providers.instance_plans import CreatePlan, InstanceRequest
from runctl.providers.interface import DoctorStatus, Provider, require


def _imported_for_types() -> Mapping[str, type]:
    """The classes that the interface itself imports for type checkers only."""
    tree = ast.parse(inspect.getsource(interface))
    blocks = (
        node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
    )
    imports = (line for block in blocks for line in block.body if isinstance(line, ast.ImportFrom))
    return {
        alias.name: getattr(import_module(line.module), alias.name)
        for line in imports
        if line.module is not None
        for alias in line.names
    }


ABILITIES: Mapping[str, type] = {
    name: next(kind for kind in get_args(hint) if kind is not Unsupported)
    for name, hint in get_type_hints(Provider, localns=dict(_imported_for_types())).items()
    if Unsupported in get_args(hint)
}
"""What a provider may have, and the interface that each ability has."""

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

    @pytest.mark.parametrize("ability", sorted(ABILITIES))
    def test_an_ability_is_there_or_the_reason_is_stated(self, provider: Provider, ability: str) -> None:
        found = getattr(provider, ability)
        if isinstance(found, Unsupported):
            assert found.message
        else:
            assert isinstance(found, ABILITIES[ability])

    def test_an_unknown_instance_is_not_found(self, provider: Provider, unknown_instance: InstanceId) -> None:
        with pytest.raises(NotFound):
            provider.instance(unknown_instance)

    def test_instances_are_listed_newest_first_and_carry_the_providers_name(self, provider: Provider) -> None:
        listed = provider.instances(everyone=True, include_ended=True)
        assert [i.created_at for i in listed] == sorted((i.created_at for i in listed), reverse=True)
        assert {i.provider for i in listed} <= {provider.name}
        assert all(i.created_at.tzinfo is not None for i in listed)

    def test_what_a_machine_costs_is_exact_and_says_how_it_is_known(self, provider: Provider) -> None:
        if isinstance(provider.prices, Unsupported):
            return
        for instance in provider.instances():
            rate = provider.prices.instance(
                instance.instance_type, provider.region, instance.market, instance.zone
            )
            if rate is not None:
                assert type(rate.usd) is Decimal
                assert rate.usd >= 0
                assert rate.source
                assert (rate.per, rate.as_of.utcoffset()) == (Per.HOUR, timedelta(0))

    def test_the_doctor_never_raises_and_names_a_fix_for_what_failed(self, provider: Provider) -> None:
        checks = provider.doctor()
        assert checks
        for check in checks:
            assert check.name and check.detail
            if check.status is DoctorStatus.FAILED:
                assert check.fix, f"{check.name} failed without a fix: {check.detail}"


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
            instance = require(provider.renting).create(require(provider.renting).plan(request))
            created.append(instance.id)
            return instance

        yield plan_and_create
        for instance_id in created:
            require(provider.renting).terminate(instance_id)

    def test_an_unknown_instance_cannot_be_terminated(
        self, provider: Provider, unknown_instance: InstanceId
    ) -> None:
        with pytest.raises(NotFound):
            require(provider.renting).terminate(unknown_instance)

    def test_planning_creates_nothing(self, provider: Provider, instance_request: InstanceRequest) -> None:
        before = {instance.id for instance in provider.instances(everyone=True, include_ended=True)}
        require(provider.renting).plan(instance_request)
        assert {i.id for i in provider.instances(everyone=True, include_ended=True)} == before

    def test_a_plan_decides_everything_and_says_where_its_prices_come_from(
        self, provider: Provider, instance_request: InstanceRequest
    ) -> None:
        plan = require(provider.renting).plan(instance_request)
        assert plan.provider == provider.name
        assert plan.instance_type and plan.image and plan.login_user and plan.client_token
        assert plan.zone_reason and plan.image_reason
        prices = [plan.price, plan.on_demand_price, *plan.volume_prices.values()]
        assert all(price is None or (price.usd >= 0 and price.source) for price in prices)

    def test_two_plans_have_different_tokens(
        self, provider: Provider, instance_request: InstanceRequest
    ) -> None:
        tokens = {require(provider.renting).plan(instance_request).client_token for _ in range(2)}
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
        plan = require(provider.renting).plan(instance_request)
        first = require(provider.renting).create(plan)
        try:
            assert require(provider.renting).create(plan).id == first.id
        finally:
            require(provider.renting).terminate(first.id)

    def test_terminating_is_idempotent_and_takes_the_instance_off_the_list(
        self,
        provider: Provider,
        instance_request: InstanceRequest,
        launch: Callable[[InstanceRequest], Instance],
    ) -> None:
        instance = launch(instance_request)
        assert require(provider.renting).terminate(instance.id).state.is_over
        assert require(provider.renting).terminate(instance.id).state.is_over
        assert instance.id not in {listed.id for listed in provider.instances()}
        assert instance.id in {listed.id for listed in provider.instances(include_ended=True)}

    def test_what_others_created_is_neither_listed_nor_terminated(
        self, provider: Provider, foreign_instance: InstanceId
    ) -> None:
        assert foreign_instance not in {listed.id for listed in provider.instances()}
        assert foreign_instance in {listed.id for listed in provider.instances(everyone=True)}
        with pytest.raises(PermissionDenied) as refused:
            require(provider.renting).terminate(foreign_instance)
        assert refused.value.code == "not-ours"
        assert not provider.instance(foreign_instance).state.is_over

    def test_a_type_that_does_not_exist_is_not_found(
        self, provider: Provider, instance_request: InstanceRequest
    ) -> None:
        with pytest.raises(NotFound):
            require(provider.renting).plan(replace(instance_request, instance_type="no.such-type"))

    def test_a_plan_is_a_value(self, provider: Provider, instance_request: InstanceRequest) -> None:
        plan: CreatePlan = require(provider.renting).plan(instance_request)
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
        assert provider.transport(instance).name in provider.transports
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
