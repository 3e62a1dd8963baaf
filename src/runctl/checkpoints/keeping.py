"""What was asked for a run's checkpoints: where else they are kept, how often, and which stay. Pure."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from urllib.parse import urlsplit

from runctl._dataclasses import dataclass
from runctl.agent.checkpoint_spec import CheckpointSchedule, StoreSpec
from runctl.agent.object_store import parse_source
from runctl.core.clock import parse_duration
from runctl.core.config import CheckpointsConfig
from runctl.core.errors import UsageError

AUTO = "auto"
OWN = "own"
"""Stands for the bucket that a provider keeps for the account."""


@dataclass(frozen=True)
class Keeping:
    """As options or the configuration say it; what is ``None`` or empty is not given."""

    s3: str | None = None
    """``s3://bucket/prefix``, or `OWN` with a prefix."""
    folder: str | None = None
    """An absolute folder of the machine, in place of ``s3``."""
    endpoint: str | None = None
    """Of an S3-compatible store."""
    region: str = ""
    """Of the bucket, where somebody has told it."""
    keys_file: str = ""
    """See `runctl.agent.checkpoint_spec.StoreSpec`."""
    every: str | None = None
    """A duration, or `AUTO`."""
    keep_last: int | None = None
    keep_best: tuple[str, ...] = ()
    without: bool = False
    """None is kept elsewhere, and a spot machine that takes all of them with it is accepted."""

    def store(self) -> StoreSpec | None:
        """Where they are kept besides; ``None``: nowhere. Raises `UsageError`."""
        url = self.s3 or self.folder
        if url is None:
            for flag, given in (("--keep-last", self.keep_last), ("--keep-best", self.keep_best)):
                if given:
                    raise UsageError(
                        f"{flag} says what stays in a store, and there is none",
                        hint="name one: --checkpoint-s3 s3://bucket/prefix",
                    )
            return None
        if self.s3 is not None:
            _check_s3(self.s3)
        else:
            try:
                check_folder(url)
            except ValueError as error:
                raise UsageError(f"--checkpoint-folder {error}", hint="such as /mnt/shared/runs") from error
        return StoreSpec(
            url=url.rstrip("/"),
            endpoint=_checked_endpoint(self.endpoint),
            region=self.region,
            keys_file=self.keys_file,
            keep_last=self.keep_last,
            keep_best=self.keep_best,
        )

    def schedule(self, between_interruptions: timedelta | None = None) -> CheckpointSchedule | None:
        """How often the script is asked; ``None``: never. Raises `UsageError`.

        ``between_interruptions`` is what was measured, where anything was.
        """
        if self.every is None:
            return None
        if self.every == AUTO:
            if between_interruptions is None:
                return CheckpointSchedule()
            return CheckpointSchedule(between_interruptions=between_interruptions.total_seconds())
        try:
            return CheckpointSchedule(every_seconds=seconds_of(self.every))
        except ValueError as error:
            raise UsageError(
                f"--checkpoint-every {self.every}: {error}", hint=f"such as 10m, or {AUTO}"
            ) from error


NOTHING = Keeping()


def with_defaults(given: Keeping, config: CheckpointsConfig) -> Keeping:
    """What was given, and what the configuration says where nothing was. Raises `UsageError`."""
    if given.without:
        return replace(given, every=given.every or config.every)
    names_store = given.s3 is not None or given.folder is not None
    s3 = given.s3 if names_store else config.s3
    if given.endpoint is not None and s3 is None:
        raise UsageError(
            "--checkpoint-endpoint says where an object store is, and none is used",
            hint="add --checkpoint-s3 s3://bucket/prefix, or leave it out",
        )
    return Keeping(
        s3=s3,
        folder=given.folder if names_store or config.s3 is not None else config.folder,
        endpoint=given.endpoint or config.endpoint,
        every=given.every or config.every,
        keep_last=given.keep_last if given.keep_last is not None else config.keep_last,
        keep_best=given.keep_best or config.keep_best,
    )


def is_own(s3: str | None) -> bool:
    """Whether the provider's bucket of the account is named."""
    return s3 is not None and s3.partition("/")[0] == OWN


def seconds_of(every: str) -> float:
    """Raises `ValueError` for what is no time between two checkpoints."""
    seconds = parse_duration(every).total_seconds()
    if seconds < 1:
        raise ValueError("less than a second is not possible")
    return seconds


def check_folder(text: str) -> None:
    """Raises `ValueError` for what cannot be a store's folder on a machine."""
    if not text.startswith("/") or ".." in text.split("/"):
        raise ValueError(f"{text}: it must be an absolute path on the machine, without ..")


def check_endpoint(text: str) -> None:
    """Raises `ValueError` for what is not the URL of an object store."""
    url = urlsplit(text)
    if url.scheme not in {"http", "https"} or not url.hostname:
        raise ValueError(f"{text}: it is not the URL of a store, such as https://minio.example:9000")


def _check_s3(text: str) -> None:
    if is_own(text):
        raise UsageError(
            f"--checkpoint-s3 {text}: there is no bucket of the provider's here",
            hint="name one: --checkpoint-s3 s3://bucket/prefix; runctl providers says which provider has its own",
        )
    try:
        parse_source(text)
    except ValueError as error:
        raise UsageError(f"--checkpoint-s3: {error}") from error


def _checked_endpoint(text: str | None) -> str:
    if text is None:
        return ""
    try:
        check_endpoint(text)
    except ValueError as error:
        raise UsageError(f"--checkpoint-endpoint {error}") from error
    return text.rstrip("/")
