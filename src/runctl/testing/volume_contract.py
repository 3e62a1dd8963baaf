"""What every provider with volumes must do, as tests; see `contract` for how to use them."""

# ruff: noqa: S101 (tests assert)
from __future__ import annotations

from collections.abc import Callable, Generator

import pytest

from runctl.core.errors import Conflict, NotFound, UsageError
from runctl.core.ids import VolumeId
from runctl.core.machine_models import Instance, Snapshot, SnapshotState, Volume, VolumeState
from runctl.core.tags import is_ours
from runctl.providers.abilities.volume_plans import (
    CloneRequest,
    ResizeRequest,
    SnapshotRequest,
    VolumeRequest,
)
from runctl.providers.instance_plans import InstanceRequest, VolumeMount
from runctl.providers.interface import Provider, require


class VolumeContract:
    """What holds for providers with volumes, in addition."""

    @pytest.fixture
    def provider(self) -> Provider:
        """The provider under test."""
        raise NotImplementedError("a subclass gives the fixture `provider`")

    @pytest.fixture
    def new_volume(self, provider: Provider) -> Generator[Callable[..., Volume]]:
        """Plan and create; what was created is deleted after the test."""
        created: list[VolumeId] = []

        def plan_and_create(**request: object) -> Volume:
            wanted = VolumeRequest(**{"size_gib": 1, **request})  # type: ignore[arg-type]
            volume = require(provider.volumes).create(require(provider.volumes).plan(wanted))
            created.append(volume.id)
            return volume

        yield plan_and_create
        for volume_id in created:
            if _exists(provider, volume_id):
                require(provider.volumes).detach(volume_id)
            require(provider.volumes).delete(volume_id)

    def test_planning_a_volume_creates_nothing_and_decides_the_zone(self, provider: Provider) -> None:
        before = {volume.id for volume in require(provider.volumes).list(everyone=True)}
        plan = require(provider.volumes).plan(VolumeRequest(1))
        assert plan.request.zone and plan.zone_reason
        # What others delete meanwhile may go.
        assert {volume.id for volume in require(provider.volumes).list(everyone=True)} <= before

    def test_a_new_volume_is_available_ours_and_found_by_id_and_name(
        self, provider: Provider, new_volume: Callable[..., Volume]
    ) -> None:
        volume = new_volume(name="contract-found")
        assert volume.state is VolumeState.AVAILABLE
        assert is_ours(volume.tags)
        assert require(provider.volumes).find(volume.id).id == volume.id
        assert require(provider.volumes).find("contract-found").id == volume.id
        assert volume.id in {listed.id for listed in require(provider.volumes).list()}

    def test_the_same_plan_twice_makes_one_volume(self, provider: Provider) -> None:
        plan = require(provider.volumes).plan(VolumeRequest(1))
        first = require(provider.volumes).create(plan)
        try:
            assert require(provider.volumes).create(plan).id == first.id
        finally:
            require(provider.volumes).delete(first.id)

    def test_a_name_is_given_once(self, provider: Provider, new_volume: Callable[..., Volume]) -> None:
        new_volume(name="contract-once")
        with pytest.raises(Conflict):
            require(provider.volumes).plan(VolumeRequest(1, name="contract-once"))

    def test_an_unknown_volume_is_not_found(self, provider: Provider) -> None:
        for name in ("vol-00000000000000000", "contract-no-such-volume"):
            with pytest.raises(NotFound):
                require(provider.volumes).find(name)

    def test_a_size_outside_the_limits_is_refused_before_any_call(self, provider: Provider) -> None:
        for size in (0, -1, 10**9):
            with pytest.raises(UsageError):
                require(provider.volumes).plan(VolumeRequest(size))

    def test_deleting_is_idempotent(self, provider: Provider, new_volume: Callable[..., Volume]) -> None:
        volume = new_volume()
        require(provider.volumes).delete(volume.id)
        require(provider.volumes).delete(volume.id)
        assert volume.id not in {listed.id for listed in require(provider.volumes).list()}

    def test_a_persistent_volume_is_not_deleted(self, provider: Provider) -> None:
        volume = require(provider.volumes).create(
            require(provider.volumes).plan(VolumeRequest(1, persistent=True))
        )
        try:
            assert volume.persistent
            with pytest.raises(Conflict) as refused:
                require(provider.volumes).delete(volume.id)
            assert refused.value.code == "protected"
            assert require(provider.volumes).find(volume.id).state is VolumeState.AVAILABLE
        finally:
            self.unprotect(volume.id)
            require(provider.volumes).delete(volume.id)

    def test_what_is_protected_goes_when_that_is_said(self, provider: Provider) -> None:
        volume = require(provider.volumes).create(
            require(provider.volumes).plan(VolumeRequest(1, persistent=True))
        )
        require(provider.volumes).delete(volume.id, include_protected=True)
        assert not _exists(provider, volume.id)

    def test_a_volume_grows_and_does_not_shrink(
        self, provider: Provider, new_volume: Callable[..., Volume]
    ) -> None:
        volume = new_volume(name="contract-grows")
        plan = require(provider.resizing).plan("contract-grows", ResizeRequest(size_gib=2))
        assert (plan.volume.id, plan.size_gib, len(plan.changes)) == (volume.id, 2, 1)
        for _ in range(2):
            assert require(provider.resizing).resize(plan).size_gib == 2
        assert require(provider.resizing).plan(volume.id, ResizeRequest(size_gib=2)).changes == ()
        with pytest.raises(UsageError):
            require(provider.resizing).plan(volume.id, ResizeRequest(size_gib=1))

    @pytest.fixture
    def new_snapshot(self, provider: Provider) -> Generator[Callable[..., Snapshot]]:
        """Plan, take and wait; what was taken is deleted after the test."""
        taken: list[Snapshot] = []

        def plan_and_take(volume: str, **request: object) -> Snapshot:
            plan = require(provider.snapshots).plan(SnapshotRequest(volume, **request))  # type: ignore[arg-type]
            snapshot = require(provider.snapshots).create(plan)
            taken.append(snapshot)
            assert require(provider.snapshots).create(plan).id == snapshot.id
            return require(provider.snapshots).wait(snapshot.id)

        yield plan_and_take
        for snapshot in taken:
            require(provider.snapshots).delete(snapshot.id, include_protected=True)

    def test_a_snapshot_is_ours_found_by_id_and_name_and_outlives_its_volume(
        self,
        provider: Provider,
        new_volume: Callable[..., Volume],
        new_snapshot: Callable[..., Snapshot],
    ) -> None:
        volume = new_volume(name="contract-taken", project="contract")
        snapshot = new_snapshot("contract-taken", name="contract-snapshot")
        assert snapshot.state is SnapshotState.COMPLETED
        assert is_ours(snapshot.tags)
        assert (snapshot.volume_id, snapshot.volume_size_gib) == (volume.id, 1)
        assert snapshot.id in {each.id for each in require(provider.snapshots).list(volume_id=volume.id)}
        require(provider.volumes).delete(volume.id)
        assert require(provider.snapshots).find("contract-snapshot").id == snapshot.id
        with pytest.raises(Conflict):
            require(provider.snapshots).plan(SnapshotRequest(new_volume().id, name="contract-snapshot"))

    def test_a_volume_made_from_a_snapshot_has_its_size_project_and_protection(
        self,
        provider: Provider,
        new_volume: Callable[..., Volume],
        new_snapshot: Callable[..., Snapshot],
    ) -> None:
        volume = new_volume(project="contract", tags={"team": "vision"})
        snapshot = new_snapshot(volume.id, name="contract-kept", persistent=True)
        with pytest.raises(Conflict) as refused:
            require(provider.snapshots).delete(snapshot.id)
        assert refused.value.code == "protected"
        plan = require(provider.volumes).plan(VolumeRequest(None, snapshot_id="contract-kept"))
        assert (plan.size_gib, plan.request.persistent, plan.request.snapshot_id) == (1, True, snapshot.id)
        restored = require(provider.volumes).create(plan)
        try:
            assert (restored.persistent, restored.tags["team"]) == (True, "vision")
            assert restored.id != volume.id and restored.snapshot_id == snapshot.id
        finally:
            require(provider.volumes).delete(restored.id, include_protected=True)

    def test_deleting_a_snapshot_is_idempotent(
        self,
        provider: Provider,
        new_volume: Callable[..., Volume],
        new_snapshot: Callable[..., Snapshot],
    ) -> None:
        snapshot = new_snapshot(new_volume().id)
        require(provider.snapshots).delete(snapshot.id)
        require(provider.snapshots).delete(snapshot.id)
        with pytest.raises(NotFound):
            require(provider.snapshots).find(snapshot.id)

    def unprotect(self, volume_id: VolumeId) -> None:
        """Take the mark of a persistent volume away, behind the provider's back."""
        raise NotImplementedError("a subclass says how to unprotect a volume")

    def test_a_volume_is_attached_and_detached_idempotently(
        self,
        provider: Provider,
        new_volume: Callable[..., Volume],
        host: Instance,
    ) -> None:
        volume = new_volume(zone=host.zone)
        for _ in range(2):
            attached = require(provider.volumes).attach(volume.id, host.id)
            assert attached.attached_to == host.id
            assert attached.state is VolumeState.IN_USE
        with pytest.raises(Conflict):
            require(provider.volumes).delete(volume.id)
        for _ in range(2):
            assert require(provider.volumes).detach(volume.id).state is VolumeState.AVAILABLE

    def test_a_volume_in_use_is_refused_in_a_plan(
        self,
        provider: Provider,
        new_volume: Callable[..., Volume],
        host: Instance,
    ) -> None:
        volume = new_volume(zone=host.zone)
        require(provider.volumes).attach(volume.id, host.id)
        with pytest.raises(Conflict):
            require(provider.renting).plan(InstanceRequest(volumes=(VolumeMount(volume.id, "/mnt/x"),)))

    @pytest.fixture
    def host(self, provider: Provider) -> Generator[Instance]:
        """A running instance to attach to; terminated after the test."""
        instance = require(provider.renting).create(require(provider.renting).plan(InstanceRequest()))
        yield self.running(instance)
        require(provider.renting).terminate(instance.id)

    def running(self, instance: Instance) -> Instance:
        """The instance, once it runs; providers whose machines take time to boot override this."""
        return instance


class CloneContract:
    """What holds for providers that copy volumes in their zone."""

    @pytest.fixture
    def provider(self) -> Provider:
        """The provider under test."""
        raise NotImplementedError("a subclass gives the fixture `provider`")

    def test_a_copy_is_of_the_same_type_in_the_same_zone_and_as_protected(self, provider: Provider) -> None:
        wanted = VolumeRequest(8, name="contract-original", iops=3500, throughput=200, persistent=True)
        original = require(provider.volumes).create(require(provider.volumes).plan(wanted))
        try:
            plan = require(provider.clones).plan(CloneRequest("contract-original", name="contract-copy"))
            copy = require(provider.clones).create(plan)
            try:
                assert require(provider.clones).create(plan).id == copy.id
                assert copy.id != original.id
                assert (copy.name, copy.persistent, copy.encrypted) == ("contract-copy", True, True)
                assert (copy.type, copy.iops, copy.throughput) == ("gp3", 3500, 200)
                assert (copy.zone, copy.size_gib) == (original.zone, 8)
            finally:
                require(provider.volumes).delete(copy.id, include_protected=True)
        finally:
            require(provider.volumes).delete(original.id, include_protected=True)


def _exists(provider: Provider, volume_id: VolumeId) -> bool:
    try:
        return require(provider.volumes).find(volume_id).state not in {
            VolumeState.DELETING,
            VolumeState.DELETED,
        }
    except NotFound:
        return False
