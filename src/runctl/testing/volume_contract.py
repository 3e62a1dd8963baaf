"""What every provider with volumes must do, as tests; see `contract` for how to use them."""

# ruff: noqa: S101 (tests assert)
from __future__ import annotations

from collections.abc import Callable, Generator

import pytest

from runctl.core.errors import Conflict, NotFound, UsageError
from runctl.core.ids import VolumeId
from runctl.core.models import Instance, Snapshot, SnapshotState, Volume, VolumeState
from runctl.core.tags import is_ours
from runctl.providers.interface import InstanceRequest, VolumeMount, VolumeProvider, VolumeRequest
from runctl.providers.volume_plans import CloneRequest, ResizeRequest, SnapshotRequest


class VolumeContract:
    """What holds for providers with volumes, in addition."""

    @pytest.fixture
    def volume_provider(self) -> VolumeProvider:
        """The provider under test."""
        raise NotImplementedError("a subclass gives the fixture `volume_provider`")

    @pytest.fixture
    def new_volume(self, volume_provider: VolumeProvider) -> Generator[Callable[..., Volume]]:
        """Plan and create; what was created is deleted after the test."""
        created: list[VolumeId] = []

        def plan_and_create(**request: object) -> Volume:
            wanted = VolumeRequest(**{"size_gib": 1, **request})  # type: ignore[arg-type]
            volume = volume_provider.create_volume(volume_provider.plan_volume(wanted))
            created.append(volume.id)
            return volume

        yield plan_and_create
        for volume_id in created:
            if _exists(volume_provider, volume_id):
                volume_provider.detach_volume(volume_id)
            volume_provider.delete_volume(volume_id)

    def test_planning_a_volume_creates_nothing_and_decides_the_zone(
        self, volume_provider: VolumeProvider
    ) -> None:
        before = {volume.id for volume in volume_provider.volumes(everyone=True)}
        plan = volume_provider.plan_volume(VolumeRequest(1))
        assert plan.request.zone and plan.zone_reason
        assert {volume.id for volume in volume_provider.volumes(everyone=True)} == before

    def test_a_new_volume_is_available_ours_and_found_by_id_and_name(
        self, volume_provider: VolumeProvider, new_volume: Callable[..., Volume]
    ) -> None:
        volume = new_volume(name="contract-found")
        assert volume.state is VolumeState.AVAILABLE
        assert is_ours(volume.tags)
        assert volume_provider.volume(volume.id).id == volume.id
        assert volume_provider.volume("contract-found").id == volume.id
        assert volume.id in {listed.id for listed in volume_provider.volumes()}

    def test_the_same_plan_twice_makes_one_volume(self, volume_provider: VolumeProvider) -> None:
        plan = volume_provider.plan_volume(VolumeRequest(1))
        first = volume_provider.create_volume(plan)
        try:
            assert volume_provider.create_volume(plan).id == first.id
        finally:
            volume_provider.delete_volume(first.id)

    def test_a_name_is_given_once(
        self, volume_provider: VolumeProvider, new_volume: Callable[..., Volume]
    ) -> None:
        new_volume(name="contract-once")
        with pytest.raises(Conflict):
            volume_provider.plan_volume(VolumeRequest(1, name="contract-once"))

    def test_an_unknown_volume_is_not_found(self, volume_provider: VolumeProvider) -> None:
        for name in ("vol-00000000000000000", "contract-no-such-volume"):
            with pytest.raises(NotFound):
                volume_provider.volume(name)

    def test_a_size_outside_the_limits_is_refused_before_any_call(
        self, volume_provider: VolumeProvider
    ) -> None:
        for size in (0, -1, 10**9):
            with pytest.raises(UsageError):
                volume_provider.plan_volume(VolumeRequest(size))

    def test_deleting_is_idempotent(
        self, volume_provider: VolumeProvider, new_volume: Callable[..., Volume]
    ) -> None:
        volume = new_volume()
        volume_provider.delete_volume(volume.id)
        volume_provider.delete_volume(volume.id)
        assert volume.id not in {listed.id for listed in volume_provider.volumes()}

    def test_a_persistent_volume_is_not_deleted(self, volume_provider: VolumeProvider) -> None:
        volume = volume_provider.create_volume(volume_provider.plan_volume(VolumeRequest(1, persistent=True)))
        try:
            assert volume.persistent
            with pytest.raises(Conflict) as refused:
                volume_provider.delete_volume(volume.id)
            assert refused.value.code == "protected"
            assert volume_provider.volume(volume.id).state is VolumeState.AVAILABLE
        finally:
            self.unprotect(volume.id)
            volume_provider.delete_volume(volume.id)

    def test_what_is_protected_goes_when_that_is_said(self, volume_provider: VolumeProvider) -> None:
        volume = volume_provider.create_volume(volume_provider.plan_volume(VolumeRequest(1, persistent=True)))
        volume_provider.delete_volume(volume.id, include_protected=True)
        assert not _exists(volume_provider, volume.id)

    def test_a_volume_grows_and_does_not_shrink(
        self, volume_provider: VolumeProvider, new_volume: Callable[..., Volume]
    ) -> None:
        volume = new_volume(name="contract-grows")
        plan = volume_provider.plan_resize("contract-grows", ResizeRequest(size_gib=2))
        assert (plan.volume.id, plan.size_gib, len(plan.changes)) == (volume.id, 2, 1)
        for _ in range(2):
            assert volume_provider.resize_volume(plan).size_gib == 2
        assert volume_provider.plan_resize(volume.id, ResizeRequest(size_gib=2)).changes == ()
        with pytest.raises(UsageError):
            volume_provider.plan_resize(volume.id, ResizeRequest(size_gib=1))

    @pytest.fixture
    def new_snapshot(self, volume_provider: VolumeProvider) -> Generator[Callable[..., Snapshot]]:
        """Plan, take and wait; what was taken is deleted after the test."""
        taken: list[Snapshot] = []

        def plan_and_take(volume: str, **request: object) -> Snapshot:
            plan = volume_provider.plan_snapshot(SnapshotRequest(volume, **request))  # type: ignore[arg-type]
            snapshot = volume_provider.create_snapshot(plan)
            taken.append(snapshot)
            assert volume_provider.create_snapshot(plan).id == snapshot.id
            return volume_provider.wait_snapshot(snapshot.id)

        yield plan_and_take
        for snapshot in taken:
            volume_provider.delete_snapshot(snapshot.id, include_protected=True)

    def test_a_snapshot_is_ours_found_by_id_and_name_and_outlives_its_volume(
        self,
        volume_provider: VolumeProvider,
        new_volume: Callable[..., Volume],
        new_snapshot: Callable[..., Snapshot],
    ) -> None:
        volume = new_volume(name="contract-taken", project="contract")
        snapshot = new_snapshot("contract-taken", name="contract-snapshot")
        assert snapshot.state is SnapshotState.COMPLETED
        assert is_ours(snapshot.tags)
        assert (snapshot.volume_id, snapshot.volume_size_gib) == (volume.id, 1)
        assert snapshot.id in {one.id for one in volume_provider.snapshots(volume_id=volume.id)}
        volume_provider.delete_volume(volume.id)
        assert volume_provider.snapshot("contract-snapshot").id == snapshot.id
        with pytest.raises(Conflict):
            volume_provider.plan_snapshot(SnapshotRequest(new_volume().id, name="contract-snapshot"))

    def test_a_volume_made_from_a_snapshot_has_its_size_project_and_protection(
        self,
        volume_provider: VolumeProvider,
        new_volume: Callable[..., Volume],
        new_snapshot: Callable[..., Snapshot],
    ) -> None:
        volume = new_volume(project="contract", tags={"team": "vision"})
        snapshot = new_snapshot(volume.id, name="contract-kept", persistent=True)
        with pytest.raises(Conflict) as refused:
            volume_provider.delete_snapshot(snapshot.id)
        assert refused.value.code == "protected"
        plan = volume_provider.plan_volume(VolumeRequest(None, snapshot_id="contract-kept"))
        assert (plan.size_gib, plan.request.persistent, plan.request.snapshot_id) == (1, True, snapshot.id)
        restored = volume_provider.create_volume(plan)
        try:
            assert (restored.persistent, restored.tags["team"]) == (True, "vision")
            assert restored.id != volume.id and restored.snapshot_id == snapshot.id
        finally:
            volume_provider.delete_volume(restored.id, include_protected=True)

    def test_deleting_a_snapshot_is_idempotent(
        self,
        volume_provider: VolumeProvider,
        new_volume: Callable[..., Volume],
        new_snapshot: Callable[..., Snapshot],
    ) -> None:
        snapshot = new_snapshot(new_volume().id)
        volume_provider.delete_snapshot(snapshot.id)
        volume_provider.delete_snapshot(snapshot.id)
        with pytest.raises(NotFound):
            volume_provider.snapshot(snapshot.id)

    def unprotect(self, volume_id: VolumeId) -> None:
        """Take the mark of a persistent volume away, behind the provider's back."""
        raise NotImplementedError("a subclass says how to unprotect a volume")

    def test_a_volume_is_attached_and_detached_idempotently(
        self,
        volume_provider: VolumeProvider,
        new_volume: Callable[..., Volume],
        host: Instance,
    ) -> None:
        volume = new_volume(zone=host.zone)
        for _ in range(2):
            attached = volume_provider.attach_volume(volume.id, host.id)
            assert attached.attached_to == host.id
            assert attached.state is VolumeState.IN_USE
        with pytest.raises(Conflict):
            volume_provider.delete_volume(volume.id)
        for _ in range(2):
            assert volume_provider.detach_volume(volume.id).state is VolumeState.AVAILABLE

    def test_a_volume_in_use_is_refused_in_a_plan(
        self,
        volume_provider: VolumeProvider,
        new_volume: Callable[..., Volume],
        host: Instance,
    ) -> None:
        volume = new_volume(zone=host.zone)
        volume_provider.attach_volume(volume.id, host.id)
        with pytest.raises(Conflict):
            volume_provider.plan_create(InstanceRequest(volumes=(VolumeMount(volume.id, "/mnt/x"),)))

    @pytest.fixture
    def host(self, volume_provider: VolumeProvider) -> Generator[Instance]:
        """A running instance to attach to; terminated after the test."""
        instance = volume_provider.create(volume_provider.plan_create(InstanceRequest()))
        yield self.running(instance)
        volume_provider.terminate(instance.id)

    def running(self, instance: Instance) -> Instance:
        """The instance, once it runs; providers whose machines take time to boot override this."""
        return instance


class CloneContract:
    """What holds for providers that copy volumes in their zone."""

    @pytest.fixture
    def volume_provider(self) -> VolumeProvider:
        """The provider under test."""
        raise NotImplementedError("a subclass gives the fixture `volume_provider`")

    def test_a_copy_is_of_the_same_type_in_the_same_zone_and_as_protected(
        self, volume_provider: VolumeProvider
    ) -> None:
        wanted = VolumeRequest(8, name="contract-original", iops=3500, throughput=200, persistent=True)
        original = volume_provider.create_volume(volume_provider.plan_volume(wanted))
        try:
            plan = volume_provider.plan_clone(CloneRequest("contract-original", name="contract-copy"))
            copy = volume_provider.clone_volume(plan)
            try:
                assert volume_provider.clone_volume(plan).id == copy.id
                assert copy.id != original.id
                assert (copy.name, copy.persistent, copy.encrypted) == ("contract-copy", True, True)
                assert (copy.type, copy.iops, copy.throughput) == ("gp3", 3500, 200)
                assert (copy.zone, copy.size_gib) == (original.zone, 8)
            finally:
                volume_provider.delete_volume(copy.id, include_protected=True)
        finally:
            volume_provider.delete_volume(original.id, include_protected=True)


def _exists(provider: VolumeProvider, volume_id: VolumeId) -> bool:
    try:
        return provider.volume(volume_id).state not in {VolumeState.DELETING, VolumeState.DELETED}
    except NotFound:
        return False
