"""AWS's `Inventory`: every kind in every region is asked at the same time."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime
from functools import partial
from itertools import groupby

from runctl._dataclasses import dataclass
from runctl.agent.object_store import partition_of
from runctl.core import tags as tag
from runctl.core.errors import CredentialsError, PermissionDenied, RunctlError
from runctl.core.money import HOURS_PER_MONTH
from runctl.core.progress import SILENT, Progress
from runctl.costs.rates import Rate
from runctl.providers.abilities.inventory import (
    Alternative,
    Inventory,
    Listing,
    Measurement,
    Measurements,
    Resource,
    ResourceKind,
    Unread,
)
from runctl.providers.abilities.volume_plans import DiskShape
from runctl.providers.aws.calls.errors import our_errors, raising_our_errors
from runctl.providers.aws.calls.session import AwsSession
from runctl.providers.aws.context import AwsContext
from runctl.providers.aws.ebs.types import as_gp3
from runctl.providers.aws.inventory import account, measuring, regional, removal
from runctl.providers.aws.inventory.regional import Found
from runctl.providers.aws.prices.price_list import Group

_THREADS = 48
"""Most of their time they wait for an answer from another continent."""


@dataclass(frozen=True)
class _Question:
    region: str | None
    what: str
    kinds: frozenset[ResourceKind]
    ask: Callable[[], Found]


@raising_our_errors
class AwsInventory(Inventory):
    """See `Inventory`."""

    def __init__(self, context: AwsContext) -> None:
        self._context = context

    def user(self) -> str | None:
        """As the tag `runctl.core.tags.OWNER` has it."""
        return self._context.session.identity.name

    def list(
        self,
        *,
        regions: Sequence[str] | None = None,
        kinds: Collection[ResourceKind] | None = None,
        stores: Mapping[str, str] | None = None,
        progress: Progress = SILENT,
    ) -> Listing:
        """Side by side."""
        asked, unasked = (tuple(regions), ()) if regions is not None else self._used_regions()
        unread = [*unasked]
        where = f"{len(asked)} regions" if len(asked) != 1 else asked[0]
        progress.step(f"listing what there is in {where}")
        questions = [
            question
            for question in (*self._of_regions(asked), *self._of_account(stores or {}))
            if kinds is None or question.kinds & set(kinds)
        ]
        found: list[Resource] = []
        with ThreadPoolExecutor(min(_THREADS, len(questions) or 1)) as pool:
            for number, (resources, missing) in enumerate(pool.map(self._answer, questions), 1):
                found += resources
                unread += missing
                progress.update(done=number, total=len(questions))
        return Listing(tuple(used_by(each_once(found))), tuple(together(unread)), asked)

    def _of_regions(self, regions: Sequence[str]) -> Iterator[_Question]:
        for region in regions:
            session = self.session_in(region)
            for kind, (what, read) in regional.KINDS.items():
                yield _Question(region, what, frozenset({kind}), partial(read, session))
            yield _Question(region, "images", account.IMAGES, partial(account.registry, session))

    def _of_account(self, stores: Mapping[str, str]) -> Iterator[_Question]:
        home = self._context.session
        # What has one is shown with the other.
        rights = frozenset({ResourceKind.ROLE, ResourceKind.INSTANCE_PROFILE})
        yield _Question(None, "roles", rights, partial(account.roles, home))
        yield _Question(None, "instance profiles", rights, partial(account.profiles, home))
        yield _Question(None, "buckets", account.STORED, partial(account.buckets, home))
        for address, run in stores.items():
            ask = partial(account.stored, home, address, run, home.identity.name)
            yield _Question(None, f"objects in {address}", account.STORED, ask)

    def _answer(self, question: _Question) -> tuple[Sequence[Resource], Sequence[Unread]]:
        try:
            with our_errors(self._context.session.endpoint):
                found = question.ask()
        except RunctlError as error:
            if isinstance(error, CredentialsError) and not isinstance(error, PermissionDenied):
                raise
            return (), (account.untold(question.region, question.what, error, question.kinds),)
        return found.resources, found.unread

    def _used_regions(self) -> tuple[tuple[str, ...], tuple[Unread, ...]]:
        """Those that are enabled for the account; where they cannot be listed, the configured one alone."""
        session = self._context.session
        try:
            with our_errors(session.endpoint):
                answer = session.ec2.describe_regions(AllRegions=False)["Regions"]
        except CredentialsError as error:
            if not isinstance(error, PermissionDenied):
                raise
            unread = Unread("aws", None, f"every region but {session.region}", error.message, error.code)
            return (session.region,), (unread,)
        partition = session.identity.partition
        names = sorted(
            item["RegionName"]
            for item in answer
            if item.get("OptInStatus") != "not-opted-in" and partition_of(item["RegionName"]) == partition
        )
        return tuple(names), ()

    def session_in(self, region: str | None) -> AwsSession:
        """The session of a region; the home session for what belongs to the account."""
        home = self._context.session
        return home if region is None else home.in_region(region)

    def protection(self, resource: Resource) -> str:
        """EC2's protection from termination."""
        if resource.kind is not ResourceKind.INSTANCE:
            return ""
        answer = self.session_in(resource.region).ec2.describe_instance_attribute(
            InstanceId=resource.id, Attribute="disableApiTermination"
        )
        return (
            "it is protected from termination in EC2"
            if answer.get("DisableApiTermination", {}).get("Value")
            else ""
        )

    def measurements(
        self, resources: Sequence[Resource], now: datetime, progress: Progress = SILENT
    ) -> Measurements:
        """CloudWatch's, region by region."""
        found: dict[str, Measurement] = {}
        unread: list[Unread] = []
        regions: dict[str, list[Resource]] = {}
        for each in resources:
            if each.region is not None and measuring.queries([each]):
                regions.setdefault(each.region, []).append(each)
        if regions:
            progress.step("asking CloudWatch what machines and volumes have used")
        for region, there in regions.items():
            session = self.session_in(region)
            try:
                series, untold = measuring.read(session, measuring.queries(there), now)
            except RunctlError as error:
                unread.append(account.untold(region, "measurements", error))
            else:
                found |= measuring.measurements(series)
                unread += [
                    Unread(
                        "aws", region, f"measurements of {each}", f"CloudWatch says {status}", "incomplete"
                    )
                    for each, status in untold.items()
                ]
            found |= measuring.with_gpus(session, there, found)
        return Measurements(found, tuple(unread))

    def alternatives(
        self, resource: Resource, measured: Measurement | None = None
    ) -> tuple[Alternative, ...]:
        """gp3 for older types, with the IOPS that they have; fewer IOPS; half of a machine."""
        if resource.kind is ResourceKind.INSTANCE:
            return tuple(self._smaller(resource))
        if resource.kind is not ResourceKind.VOLUME or resource.size_bytes is None:
            return ()
        found: list[Alternative] = []
        fast = as_gp3(resource.type or "", resource.size_bytes >> 30, resource.iops)
        if fast is not None and (rate := self._volume_rate(resource, fast)) is not None:
            options = ["--volume-type", fast.type]
            options += ["--iops", str(fast.iops), "--throughput", str(fast.throughput)]
            text = f"{fast.type} with {fast.iops:,} IOPS and {fast.throughput} MiB/s is as fast as its {resource.type}"
            found.append(Alternative(text, tuple(options), rate.usd))
        few = measuring.enough(resource, measured)
        if (
            few is not None
            and (rate := self._volume_rate(resource, few)) is not None
            and measured is not None
        ):
            text = (
                f"it did at most {measured.most_iops:,.0f} operations a second in the last day, and has"
                f" {resource.iops:,} IOPS: {few.iops:,} are enough"
            )
            found.append(Alternative(text, ("--iops", str(few.iops)), rate.usd, by_use=True))
        return tuple(found)

    def _volume_rate(self, resource: Resource, shape: DiskShape) -> Rate | None:
        book = self._context.prices.in_region(resource.region or self._context.session.region)
        return book.current_rates(Group.EBS).volume(shape)

    def _smaller(self, machine: Resource) -> Iterator[Alternative]:
        name = measuring.smaller_type(machine.type or "")
        if name is None:
            return
        book = self._context.prices.in_region(machine.region or self._context.session.region)
        rate = book.spot(name, machine.zone) if machine.market == "spot" else book.on_demand(name)
        if rate is not None:
            options = (name, *(("--zone", machine.zone) if machine.zone else ()))
            options = (*options, *(("--spot",) if machine.market == "spot" else ("--on-demand",)))
            text = f"{name} has half of its processors and memory"
            yield Alternative(text, options, rate.usd * HOURS_PER_MONTH, by_use=True)

    def remove(self, resource: Resource, progress: Progress = SILENT) -> None:
        """See `runctl.providers.aws.inventory.removal`."""
        progress.step(f"removing {resource.label}")
        removal.remove(self.session_in(resource.region), resource, self._all_sessions)

    def is_gone(self, resource: Resource) -> bool:
        """As the kind's own call says."""
        return removal.find(self.session_in(resource.region), resource) is None

    def find_foreign(self, identifier: str) -> Resource | None:
        """Instances, volumes, snapshots and security groups."""
        with our_errors(self._context.session.endpoint):
            return regional.foreign(self._context.session, identifier)

    def take_over(self, resource: Resource, progress: Progress = SILENT) -> None:
        """The tag `runctl.core.tags.OWNER`."""
        progress.step(f"taking over {resource.label}")
        removal.take_over(self.session_in(resource.region), resource, self.user() or "")

    def stop(self, resource: Resource, progress: Progress = SILENT) -> None:
        """StopInstances."""
        progress.step(f"stopping {resource.name or resource.id}")
        removal.stop(self.session_in(resource.region), resource)

    def is_stopped(self, resource: Resource) -> bool:
        """It is stopped, or gone."""
        return removal.state(self.session_in(resource.region), resource) in {None, "stopped"}

    def _all_sessions(self) -> Sequence[AwsSession]:
        names, unread = self._used_regions()
        if unread:
            raise PermissionDenied(unread[0].reason, hint="ask for permission to ec2:DescribeRegions")
        return [self.session_in(name) for name in names]


def each_once(found: Sequence[Resource]) -> list[Resource]:
    """Without repetitions: a run's objects in a bucket of ours are found twice. The later one knows the owner. Pure."""
    return list({(each.kind, each.region, each.id): each for each in found}.values())


def used_by(found: Sequence[Resource]) -> Iterator[Resource]:
    """Every resource, with what uses it as far as only the others say: a template's groups, a role's profiles, the
    machines of one run that have a network of their own. Pure."""
    users: dict[tuple[ResourceKind, str | None, str], list[str]] = {}
    networks: dict[str, list[Resource]] = {}
    for each in found:
        if (
            each.kind in {ResourceKind.SECURITY_GROUP, ResourceKind.PLACEMENT_GROUP}
            and tag.INTENT in each.tags
        ):
            networks.setdefault(each.tags[tag.INTENT], []).append(each)
    for each in found:
        if each.kind in {ResourceKind.INSTANCE, ResourceKind.GROUP}:
            # A group that has no machine now rents the next one into it.
            for own in networks.get(each.tags.get(tag.INTENT, ""), ()):
                users.setdefault((own.kind, own.region, own.id), []).append(each.id)
        if each.kind is ResourceKind.GROUP and each.source:
            users.setdefault((ResourceKind.LAUNCH_TEMPLATE, each.region, each.source), []).append(each.id)
        if each.kind is ResourceKind.INSTANCE and each.source:
            users.setdefault((ResourceKind.INSTANCE_PROFILE, None, each.source), []).append(each.id)
        if each.kind is ResourceKind.INSTANCE_PROFILE and each.source:
            users.setdefault((ResourceKind.ROLE, None, each.source), []).append(each.id)
    for each in found:
        more = users.get((each.kind, each.region, each.id), ())
        yield replace(each, attached_to=(*each.attached_to, *more)) if more else each


def together(unread: Sequence[Unread]) -> Iterator[Unread]:
    """One for all kinds that a region does not tell of for the same reason. Pure."""

    def cause(each: Unread) -> tuple[str, str]:
        return (each.region or "", each.code)

    for _, same in groupby(sorted(unread, key=cause), key=cause):
        several = list(same)
        kinds = {kind for each in several for kind in each.kinds}
        yield replace(
            several[0],
            what=", ".join(each.what for each in several),
            # One that does not say of which kinds it is may be of any.
            kinds=tuple(sorted(kinds)) if all(each.kinds for each in several) else (),
        )
