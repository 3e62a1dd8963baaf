"""The bucket that runs are kept in: private, encrypted, and rid of what nobody needs."""

from __future__ import annotations

from typing import Any

from runctl.core import tags as tag
from runctl.core.progress import Progress
from runctl.providers.abilities.account import SetupPart, SetupState
from runctl.providers.aws import buckets
from runctl.providers.aws.calls.errors import error_code
from runctl.providers.aws.calls.parse import tags_of
from runctl.providers.aws.context import AwsContext

STAGING, LOGS, RUNS = "staging/", "logs/", "runs"
STAGING_DAYS, LOG_DAYS, UPLOAD_DAYS = 1, 90, 7
PURPOSE = (
    f"keeps runs at s3://BUCKET/{RUNS}: private, encrypted; packs go after {STAGING_DAYS} day, logs below {LOGS} after"
    f" {LOG_DAYS} days, unfinished uploads after {UPLOAD_DAYS}; billed by what is in it"
)
_ABSENT = frozenset(
    {
        "404",
        "NoSuchBucket",
        "NotFound",
        "NoSuchTagSet",
        "NoSuchLifecycleConfiguration",
        "NoSuchPublicAccessBlockConfiguration",
        "ServerSideEncryptionConfigurationNotFoundError",
    }
)


def lifecycle() -> dict[str, Any]:
    """The rules. Pure."""
    rules = [
        _rule("runctl-packs", STAGING, STAGING_DAYS),
        _rule("runctl-logs", LOGS, LOG_DAYS),
        {
            "ID": "runctl-aborted-uploads",
            "Status": "Enabled",
            "Filter": {"Prefix": ""},
            "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": UPLOAD_DAYS},
        },
    ]
    return {"Rules": rules}


def _rule(name: str, prefix: str, days: int) -> dict[str, Any]:
    return {"ID": name, "Status": "Enabled", "Filter": {"Prefix": prefix}, "Expiration": {"Days": days}}


class RunsBucket:
    """The part of the set-up."""

    kind = "bucket"

    def __init__(self, context: AwsContext) -> None:
        self._session = context.session

    @property
    def name(self) -> str:
        """One for each account and region."""
        return f"runctl-{self._session.identity.account}-{self._session.region}"

    @property
    def address(self) -> str:
        """Where runs are kept in it."""
        return f"s3://{self.name}/{RUNS}"

    def inspect(self) -> SetupPart:
        """Whether it is there as it should be."""
        owned = {"Bucket": self.name, "ExpectedBucketOwner": self._session.identity.account}
        s3: Any = self._session.s3
        try:
            s3.head_bucket(**owned)
        except Exception as error:
            if error_code(error) in _ABSENT:
                return self._part(SetupState.MISSING)
            if error_code(error) in {"403", "AccessDenied"}:
                return self._part(SetupState.NOT_OURS, "it is another account's, or this one may not use it")
            raise
        tags = _found(lambda: tags_of(s3.get_bucket_tagging(**owned)["TagSet"])) or {}
        if tags and not tag.is_ours(tags):
            return self._part(SetupState.NOT_OURS, "runctl did not create it")
        block = _found(lambda: s3.get_public_access_block(**owned)["PublicAccessBlockConfiguration"])
        rules = _found(lambda: s3.get_bucket_lifecycle_configuration(**owned)["Rules"]) or []
        encryption = _found(lambda: s3.get_bucket_encryption(**owned))
        missing = [
            what
            for what, there in (
                ("privacy", block == buckets.PRIVATE),
                ("encryption", encryption is not None),
                (
                    "lifecycle",
                    {rule["ID"] for rule in lifecycle()["Rules"]} <= {rule.get("ID") for rule in rules},
                ),
                ("tag", buckets.is_finished(tags)),
            )
            if not there
        ]
        if missing:
            return self._part(SetupState.INCOMPLETE, f"to be set: {', '.join(missing)}")
        return self._part(SetupState.READY)

    def inspect_for_removal(self) -> SetupPart:
        """The same, and whether something is in it."""
        found = self.inspect()
        if found.state not in (SetupState.READY, SetupState.INCOMPLETE):
            return found
        if self._session.s3.list_objects_v2(Bucket=self.name, MaxKeys=1).get("KeyCount"):
            return self._part(
                SetupState.IN_USE,
                f"there are objects in it: aws s3 rm --recursive s3://{self.name} deletes them for good",
            )
        return found

    def create(self, progress: Progress) -> None:
        """It is there, with all its settings."""
        progress.step(f"creating the bucket {self.name}")
        s3 = self._session.s3
        if _found(lambda: s3.head_bucket(Bucket=self.name)) is None:
            buckets.create(s3, self.name, self._session.region)
        buckets.finish(s3, self.name, lifecycle())

    def remove(self, progress: Progress) -> None:
        """It is gone; S3 refuses that while something is in it."""
        progress.step(f"deleting the bucket {self.name}")
        _found(lambda: self._session.s3.delete_bucket(Bucket=self.name))

    def _part(self, state: SetupState, detail: str = "") -> SetupPart:
        return SetupPart(self.kind, self.name, PURPOSE.replace("BUCKET", self.name), state, detail)


def _found(call: Any) -> Any:
    try:
        return call()
    except Exception as error:
        if error_code(error) in _ABSENT:
            return None
        raise
