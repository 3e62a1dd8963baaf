"""A bucket in an S3 that answers over HTTP, and the program that fills a folder from it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
from boto3.s3.transfer import TransferConfig
from botocore.config import Config

from runctl.agent.cloud.credentials import Credentials
from runctl.agent.cloud.s3 import S3, Location

REGION = "us-east-1"
MIB = 1 << 20


@dataclass
class Said:
    """What a filling said, and how it ended."""

    code: int
    events: list[dict[str, Any]]
    errors: str

    @property
    def last(self) -> dict[str, Any]:
        """Its result or its error."""
        assert self.events, self.errors
        return self.events[-1]

    def ok(self) -> dict[str, Any]:
        """The result, where there is one."""
        assert self.code == 0, f"{self.events}\n{self.errors}"
        assert self.last["event"] == "result"
        return self.last

    def plan(self) -> dict[str, Any]:
        """What it found to be done."""
        return next(event for event in self.events if event["event"] == "plan")


@dataclass
class Bucket:
    """A bucket, and a folder to fill from it."""

    account: dict[str, str]
    """The variables that lead to it."""
    name: str
    into: Path
    client: Any = field(repr=False)

    def put(self, key: str, data: bytes = b"x", **parameters: Any) -> None:
        """An object in one piece."""
        self.client.put_object(Bucket=self.name, Key=key, Body=data, **parameters)

    def put_parts(self, key: str, data: bytes, part: int, folder: Path) -> None:
        """An object in parts."""
        file = folder / "upload"
        file.write_bytes(data)
        config = TransferConfig(multipart_threshold=part, multipart_chunksize=part)
        self.client.upload_file(str(file), self.name, key, Config=config)

    def remove(self, key: str) -> None:
        """It is gone."""
        self.client.delete_object(Bucket=self.name, Key=key)

    def argv(self, source: str = "", *options: str) -> list[str]:
        """The program's command line."""
        argv = ["s3", f"s3://{self.name}/{source}", str(self.into), "--region", REGION, *options]
        return [sys.executable, "-m", "runctl.agent", "fill", *argv]

    def environment(self) -> dict[str, str]:
        """What it is run with."""
        return {**os.environ, **self.account}

    def s3(self) -> S3:
        """It, by the agent's own client."""
        location = Location(REGION, self.account["AWS_ENDPOINT_URL"])
        return S3(self.name, location, Credentials(self.account))

    def fill(self, source: str = "", *options: str) -> Said:
        """Run the program to its end."""
        done = subprocess.run(
            self.argv(source, *options), env=self.environment(), capture_output=True, text=True, check=False
        )
        return Said(done.returncode, [json.loads(line) for line in done.stdout.splitlines()], done.stderr)

    def files(self) -> dict[str, bytes]:
        """What lies in the folder now, but for the program's own."""
        return {
            str(path.relative_to(self.into)): path.read_bytes()
            for path in self.into.rglob("*")
            if path.is_file() and ".runctl" not in path.parts
        }


def client(account: dict[str, str], **options: Any) -> Any:
    """An SDK's own."""
    return boto3.client(
        "s3",
        endpoint_url=account["AWS_ENDPOINT_URL"],
        region_name=REGION,
        aws_access_key_id=account["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=account["AWS_SECRET_ACCESS_KEY"],
        config=Config(**options),
    )


def new_bucket(account: dict[str, str], into: Path) -> Bucket:
    """An empty one."""
    name = "b" + os.urandom(6).hex()
    found = Bucket(account, name, into, client(account))
    found.client.create_bucket(Bucket=name)
    return found


def older(bucket: Bucket) -> Bucket:
    """The same bucket by an SDK that has S3 keep no checksums: an ETag is all that there is."""
    plain = client(bucket.account, request_checksum_calculation="when_required")
    return Bucket(bucket.account, bucket.name, bucket.into, plain)
