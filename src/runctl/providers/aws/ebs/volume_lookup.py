"""EBS volumes that exist: found, listed, checked and waited for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any

from runctl.core import tags as tag
from runctl.core.errors import Conflict, NotFound, PermissionDenied, ProviderError, Unreachable, UsageError
from runctl.core.ids import VolumeId
from runctl.core.machine_models import Volume, VolumeState
from runctl.core.progress import Progress
from runctl.core.text import time_span
from runctl.core.waiting import attempts
from runctl.providers.aws.calls.errors import our_errors
from runctl.providers.aws.calls.filters import describe
from runctl.providers.aws.calls.parse import tags_of, utc, volume_of
from runctl.providers.aws.context import AwsContext
from runctl.providers.names import check_resource_name

OVER = frozenset({"deleting", "deleted"})
VISIBLE_WITHIN = timedelta(seconds=10)
"""How long a volume that was created a while ago may be missing from EC2's lists before it counts as deleted."""
REPLAY_AGE = timedelta(seconds=3)
"""A volume that is older than this when the call is answered was created by an earlier call."""


def describe_volumes(context: AwsContext, filters: Mapping[str, Iterable[str]]) -> list[Mapping[str, Any]]:
    """Every page of ``DescribeVolumes``."""
    return describe(context.session.ec2, "describe_volumes", filters)


def list_volumes(context: AwsContext, *, everyone: bool) -> tuple[Volume, ...]:
    """Ours, or all, newest first."""
    items = describe_volumes(context, {} if everyone else {f"tag:{tag.OWNED}": [tag.OWNED_VALUE]})
    items.sort(key=lambda item: (utc(item.get("CreateTime")), item["VolumeId"]), reverse=True)
    types = _instance_types(context, items)
    rates = context.prices.rates
    return tuple(volume_of(item, rates, types.get(_attached_to(item) or "")) for item in items)


def find_volume(context: AwsContext, id_or_name: str) -> Volume:
    """By id or by Name tag. Raises `NotFound`, `Conflict` (several of the name)."""
    item = find_described(context, id_or_name)
    types = _instance_types(context, [item])
    return volume_of(item, context.prices.rates, types.get(_attached_to(item) or ""))


def check_ours(volume: Volume) -> None:
    """Raises `PermissionDenied` (code ``not-ours``) for a volume that runctl did not create."""
    if not tag.is_ours(volume.tags):
        raise PermissionDenied(
            f"volume {volume.id} was not created by runctl and is left alone",
            hint="runctl works on a copy of its own: runctl aws ebs clone; what is not its own you change with"
            " `aws ec2`",
            code="not-ours",
        )


def check_not_moving(volume: Volume) -> None:
    """Raises `Conflict` (code ``moving``) while its data is on the way to another zone.

    What was written to it now would not arrive there.
    """
    if tag.MOVE in volume.tags:
        name = volume.tags.get(tag.MOVE_NAME) or volume.name or volume.id
        raise Conflict(
            f"volume {volume.name or volume.id} is being moved to another zone",
            hint=f"`runctl aws ebs show {volume.id}` names the zone in runctl:move-zone; finish it: runctl aws ebs move"
            f" {name} --availability-zone ZONE, or give it up: runctl aws ebs move {name} --abandon",
            code="moving",
        )


def check_name(context: AwsContext, name: str, token: str | None = None) -> None:
    """Raises `UsageError` for what cannot be a name, `Conflict` (code ``name-taken``) where a volume has it.

    The volume that this very ``token`` has made may have it.
    """
    check_resource_name(name, "a volume", "datasets")
    for item in describe_volumes(context, {f"tag:{tag.NAME}": [name]}):
        if item["State"] not in OVER and not tag.is_of_intent(tags_of(item.get("Tags")), token):
            mine = "" if tag.is_ours(tags_of(item.get("Tags"))) else ", which runctl did not create"
            raise Conflict(
                f"there is a volume named {name!r}: {item['VolumeId']}{mine}",
                hint="use it, or choose another --name",
                code="name-taken",
            )


def check_not_empty(id_or_name: str, kind: str) -> None:
    """Raises `UsageError` for a blank text, which is what an unset shell variable gives."""
    if not id_or_name.strip():
        raise UsageError(f"expected {kind}, not an empty text", hint="use its id or its name")


def in_use(volume: Volume) -> Conflict:
    return Conflict(
        f"volume {volume.name or volume.id} is in use: attached to {', '.join(volume.instances)}",
        hint=f"runctl aws ebs detach {volume.id}",
        code="volume-in-use",
    )


def wait_state(
    context: AwsContext, volume_id: VolumeId, wanted: VolumeState, timeout: timedelta, progress: Progress
) -> Volume:
    volume: Volume | None = None
    for _ in attempts(context.clock, timeout):
        try:
            volume = find_volume(context, volume_id)
        except NotFound:
            # A volume made a moment ago may not be seen yet.
            continue
        if volume.state is wanted:
            return volume
        if volume.state is VolumeState.ERROR:
            raise ProviderError(
                f"volume {volume_id} is in error: EC2 could not create it",
                hint="often its KMS key or its snapshot cannot be used; delete it and check the console",
            )
        progress.update(f"{volume_id} is {volume.state.value}")
    state = volume.state.value if volume else "not visible"
    raise Unreachable(
        f"volume {volume_id} is {state}, not {wanted.value}, after {time_span(timeout)}",
        hint="a mounted file system keeps a volume from being detached: unmount it, or use --force when the machine"
        " does not answer"
        if wanted is VolumeState.AVAILABLE and state == "in-use"
        else "try again in a minute",
    )


def wait_created(
    context: AwsContext, answer: Mapping[str, Any], *, replayed: bool, timeout: timedelta, progress: Progress
) -> Volume:
    """The volume that a create call was answered with is available.

    ``replayed``: it was made by an earlier call with the same client token. Raises `Conflict` (code ``token-spent``)
    where such a volume was deleted since: EC2 answers with it all the same.
    """
    volume_id = VolumeId(answer["VolumeId"])
    if replayed:
        for _ in attempts(context.clock, VISIBLE_WITHIN):
            try:
                state = find_described(context, volume_id)["State"]
            except NotFound:
                continue
            if state not in OVER:
                break
            raise _token_spent(volume_id)
        else:
            raise _token_spent(volume_id)
    return wait_state(context, volume_id, VolumeState.AVAILABLE, timeout, progress)


def is_replayed(answered_at: str, created_at: datetime | None) -> bool:
    """Whether the answer to a create call is that of an earlier one. Pure.

    Both times are AWS's: the answer's ``Date`` header, and when the volume was created.
    """
    try:
        answered = parsedate_to_datetime(answered_at)
    except ValueError:
        return False
    return created_at is not None and answered - created_at > REPLAY_AGE


def _token_spent(volume_id: str) -> Conflict:
    return Conflict(
        f"this request created volume {volume_id} earlier, and it has been deleted since",
        hint="run the same command again to create a new one",
        code="token-spent",
    )


def find_described(context: AwsContext, id_or_name: str) -> Mapping[str, Any]:
    """The item of ``DescribeVolumes``. Raises `NotFound`, `UsageError` for no name at all, and `Conflict` where several
    volumes have the name.
    """
    check_not_empty(id_or_name, "a volume")
    if id_or_name.startswith("vol-"):
        try:
            with our_errors(context.session.endpoint):
                found: list[Any] = context.session.ec2.describe_volumes(VolumeIds=[id_or_name])["Volumes"]
        except NotFound as error:
            raise _no_volume(id_or_name, context) from error
        if found:
            item: Mapping[str, Any] = found[0]
            return item
        raise _no_volume(id_or_name, context)
    named = [
        item
        for item in describe_volumes(context, {f"tag:{tag.NAME}": [id_or_name]})
        if item["State"] not in OVER
    ]
    if len(named) > 1:
        raise Conflict(
            f"{len(named)} volumes are named {id_or_name!r}: {', '.join(v['VolumeId'] for v in named)}",
            hint="use the id of the one you mean",
            code="ambiguous-name",
        )
    if not named:
        raise _no_volume(id_or_name, context)
    return named[0]


def _no_volume(id_or_name: str, context: AwsContext) -> NotFound:
    return NotFound(
        f"{context.session.region} has no volume {id_or_name!r}",
        hint="`runctl aws ebs list` shows yours; --region searches another region",
    )


def _attached_to(item: Mapping[str, Any]) -> str | None:
    return next((a["InstanceId"] for a in item.get("Attachments", ()) if a.get("InstanceId")), None)


def _instance_types(context: AwsContext, volumes: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """Instance type by instance id, for what the volumes are attached to."""
    ids = sorted({instance for item in volumes if (instance := _attached_to(item))})
    types: dict[str, str] = {}
    for start in range(0, len(ids), 200):
        found = describe(context.session.ec2, "describe_instances", {"instance-id": ids[start : start + 200]})
        types.update({item["InstanceId"]: item["InstanceType"] for item in found})
    return types
