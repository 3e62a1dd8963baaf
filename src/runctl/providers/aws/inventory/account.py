"""What runctl has in an account beside machines and disks: image registries, roles, buckets and objects."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import datetime
from typing import Any

from runctl._dataclasses import dataclass
from runctl.agent.object_store import parse_source
from runctl.core import tags as tag
from runctl.core.errors import NotFound, RunctlError
from runctl.providers.abilities.inventory import Resource, ResourceKind, Unread
from runctl.providers.aws.calls.errors import error_code, our_errors
from runctl.providers.aws.calls.parse import tags_of, utc
from runctl.providers.aws.calls.session import AwsSession
from runctl.providers.aws.iam import helper_role
from runctl.providers.aws.inventory.regional import Found, resource
from runctl.providers.aws.staging import PREFIX as STAGING

PREFIX = "runctl-"
"""Of every role, profile and bucket that runctl makes: their lists have no tags, so that each is asked for its own."""
IMAGES = frozenset({ResourceKind.IMAGE, ResourceKind.REPOSITORY})
STORED = frozenset({ResourceKind.BUCKET, ResourceKind.OBJECTS, ResourceKind.UPLOAD})
"""Kinds that one question tells of."""
_THREADS = 16
_CHECKPOINT = re.compile(r"/run-[a-z0-9]{10}/checkpoints/\d{4}-\d{6}\.json$")
"""A checkpoint's manifest, which is written last."""
_RUN = re.compile(r"(?:^|/)(run-[a-z0-9]{10})/")


def registry(session: AwsSession) -> Found:
    """The repositories with our tag, and every image in them."""
    found: list[Resource] = []
    unread: list[Unread] = []
    for page in session.ecr.get_paginator("describe_repositories").paginate():
        for repository in page["repositories"]:
            name = repository["repositoryName"]
            try:
                with our_errors(session.endpoint):
                    answer = session.ecr.list_tags_for_resource(resourceArn=repository["repositoryArn"])
                    tags = tags_of(answer["tags"])  # type: ignore[arg-type]
                    if tag.is_ours(tags):
                        found += _repository(session, repository, tags)
            except NotFound:
                continue  # deleted since it was listed
            except RunctlError as error:
                unread.append(untold(session.region, f"image repository {name}", error, IMAGES))
    return Found(tuple(found), tuple(unread))


def _repository(
    session: AwsSession, repository: Mapping[str, Any], tags: Mapping[str, str]
) -> Iterator[Resource]:
    name = repository["repositoryName"]
    total = 0
    images = []
    for page in session.ecr.get_paginator("describe_images").paginate(repositoryName=name):
        for image in page["imageDetails"]:
            total += int(image.get("imageSizeInBytes", 0))
            pulled = image.get("lastRecordedPullTime")
            images.append(
                resource(
                    ResourceKind.IMAGE,
                    f"{name}@{image['imageDigest']}",
                    tags,
                    session.region,
                    name=", ".join(sorted(image.get("imageTags", ()))) or None,
                    created_at=utc(image["imagePushedAt"]),
                    size_bytes=int(image.get("imageSizeInBytes", 0)),
                    source=name,
                    details=f"pulled {utc(pulled):%Y-%m-%d}" if pulled else "",
                )
            )
    yield from images
    yield resource(
        ResourceKind.REPOSITORY,
        name,
        tags,
        session.region,
        name=name,
        created_at=utc(repository["createdAt"]) if repository.get("createdAt") else None,
        size_bytes=total,
        attached_to=tuple(image.id for image in images),
    )


def roles(session: AwsSession) -> Found:
    """Roles whose names begin as ours do, and that have our tag."""
    names = [
        (item["RoleName"], item.get("CreateDate"))
        for page in session.iam.get_paginator("list_roles").paginate()
        for item in page["Roles"]
    ]
    return _of_iam(
        session,
        ResourceKind.ROLE,
        names,
        lambda name: session.iam.get_role(RoleName=name)["Role"],
    )


def profiles(session: AwsSession) -> Found:
    """The same for instance profiles. The role that one carries is in `Resource.source`."""
    names = [
        (item["InstanceProfileName"], item.get("CreateDate"))
        for page in session.iam.get_paginator("list_instance_profiles").paginate()
        for item in page["InstanceProfiles"]
    ]
    return _of_iam(
        session,
        ResourceKind.INSTANCE_PROFILE,
        names,
        lambda name: session.iam.get_instance_profile(InstanceProfileName=name)["InstanceProfile"],
    )


def _of_iam(
    session: AwsSession, kind: ResourceKind, names: Sequence[tuple[str, datetime | None]], get: Any
) -> Found:
    ours = [(name, created) for name, created in names if name.startswith(PREFIX)]
    if not ours:
        return Found(())

    def tagged(name: str) -> Any:
        try:
            with our_errors(session.endpoint):
                return get(name)
        except NotFound:
            return None  # deleted since it was listed
        except RunctlError as error:
            return untold(None, f"{kind.label} {name}", error, {kind})

    found: list[Resource] = []
    unread: list[Unread] = []
    with ThreadPoolExecutor(min(_THREADS, len(ours))) as pool:
        for (name, created), item in zip(ours, pool.map(tagged, [name for name, _ in ours]), strict=True):
            if isinstance(item, Unread):
                unread.append(item)
            elif item is not None and tag.is_ours(tags_of(item.get("Tags"))):
                found.append(_right(kind, name, created, item))
    return Found(tuple(found), tuple(unread))


def _right(kind: ResourceKind, name: str, created: datetime | None, item: Mapping[str, Any]) -> Resource:
    carried = [role["RoleName"] for role in item.get("Roles", ())]
    return resource(
        kind,
        name,
        tags_of(item.get("Tags")),
        None,
        name=name,
        created_at=utc(created) if created else None,
        source=carried[0] if carried else None,
        helper_for=name.removeprefix(helper_role.PREFIX) if name.startswith(helper_role.PREFIX) else None,
    )


def buckets(session: AwsSession) -> Found:
    """Buckets whose names begin as ours do and that have our tag, with every object and unfinished upload in them."""
    found: list[Resource] = []
    unread: list[Unread] = []
    for item in session.s3.list_buckets()["Buckets"]:
        name = item["Name"]
        if not name.startswith(PREFIX):
            continue
        try:
            with our_errors(session.endpoint):
                tags = bucket_tags(session, name)
                if tag.is_ours(tags):
                    found += _bucket(session, name, item.get("CreationDate"), tags)
        except NotFound:
            continue
        except RunctlError as error:
            unread.append(untold(None, f"bucket {name}", error, STORED))
    return Found(tuple(found), tuple(unread))


def bucket_tags(session: AwsSession, name: str) -> dict[str, str]:
    """The tags of a bucket of this account; empty for one that has none."""
    try:
        answer = session.s3.get_bucket_tagging(Bucket=name, ExpectedBucketOwner=session.identity.account)
    except Exception as error:
        if error_code(error) == "NoSuchTagSet":
            return {}
        raise
    return tags_of(answer["TagSet"])  # type: ignore[arg-type]


def _bucket(
    session: AwsSession, name: str, created: datetime | None, tags: Mapping[str, str]
) -> Iterator[Resource]:
    folders: dict[str, _Folder] = {}
    for page in session.s3.get_paginator("list_objects_v2").paginate(Bucket=name):
        for item in page.get("Contents", ()):
            folders.setdefault(folder_of(item["Key"]), _Folder()).add(item)
    inside = [folder.resource(name, key, tags) for key, folder in folders.items()]
    inside += _uploads(session, name, "", tags)
    yield from inside
    yield resource(
        ResourceKind.BUCKET,
        name,
        tags,
        None,
        name=name,
        created_at=utc(created) if created else None,
        size_bytes=sum(each.size_bytes or 0 for each in inside),
        attached_to=tuple(each.id for each in inside),
    )


def _uploads(session: AwsSession, bucket: str, prefix: str, tags: Mapping[str, str]) -> Iterator[Resource]:
    for page in session.s3.get_paginator("list_multipart_uploads").paginate(Bucket=bucket, Prefix=prefix):
        for item in page.get("Uploads", ()):
            yield resource(
                ResourceKind.UPLOAD,
                f"s3://{bucket}/{item['Key']}?uploadId={item['UploadId']}",
                tags,
                None,
                created_at=utc(item["Initiated"]),
                source=bucket,
                details="not completed: its parts are billed",
            )


def stored(session: AwsSession, address: str, run_id: str, owner: str | None) -> Found:
    """What a run has below its own address, as one resource, and each unfinished upload there.

    The address ends in the run's id: that is what says whose it is, as objects have no tags.
    """
    source = parse_source(address)
    if source.prefix.rpartition("/")[2] != run_id:
        return Found(())
    prefix = source.prefix + "/"
    folder = _Folder()
    tags = {tag.OWNED: tag.OWNED_VALUE, **({tag.OWNER: owner} if owner else {})}
    with suppress(NotFound), our_errors(session.endpoint):
        for page in session.s3.get_paginator("list_objects_v2").paginate(Bucket=source.bucket, Prefix=prefix):
            for item in page.get("Contents", ()):
                folder.add(item)
        uploads = tuple(_uploads(session, source.bucket, prefix, tags))
        objects = (folder.resource(source.bucket, prefix, tags),) if folder.count else ()
        return Found((*objects, *uploads))
    return Found(())


@dataclass
class _Folder:
    """The objects below one address, counted."""

    count: int = 0
    size_bytes: int = 0
    newest: datetime | None = None
    checkpoints: int = 0

    def add(self, item: Mapping[str, Any]) -> None:
        changed = utc(item["LastModified"])
        self.checkpoints += bool(_CHECKPOINT.search(item["Key"]))
        self.count, self.size_bytes = self.count + 1, self.size_bytes + item["Size"]
        self.newest = max(self.newest or changed, changed)

    def resource(self, bucket: str, key: str, tags: Mapping[str, str]) -> Resource:
        run = _RUN.search(key)
        return resource(
            ResourceKind.OBJECTS,
            f"s3://{bucket}/{key}",
            tags,
            None,
            name=run.group(1) if run else None,
            state="staged" if key.startswith(STAGING) else "",
            created_at=self.newest,
            size_bytes=self.size_bytes,
            source=bucket,
            checkpoints=self.checkpoints,
            details=f"{self.count:,} objects" if key.endswith("/") else "",
        )


def folder_of(key: str) -> str:
    """What an object of one of our own buckets is shown with: a run's folder, or the first one. Pure.

    Staged objects are shown one by one: each is left by another command.
    """
    run = _RUN.search(key)
    if run:
        return key[: run.end()]
    first, slash, _ = key.partition("/")
    return key if key.startswith(STAGING) or not slash else first + slash


def untold(region: str | None, what: str, error: RunctlError, kinds: Collection[ResourceKind] = ()) -> Unread:
    """What an error keeps us from knowing."""
    return Unread("aws", region, what, error.message, error.code, tuple(sorted(kinds)))
