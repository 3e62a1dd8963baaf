"""One account in a sandbox: commands in it, with and without faults, and everything that exists there."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config

from runctl.core.config import SANDBOX_VARIABLE
from runctl.sandbox.connection import SandboxInfo
from tests.faults.proxy import Call, FaultProxy
from tests.forked import client

RUNCTL = Path(sys.executable).with_name("runctl")
ZONE = "us-east-1a"
OTHER_ZONE = "us-east-1b"
OWNED = "runctl:managed"
LYCEUM = "/api/v2/external"
CLOUD_PATHS = {
    "pod": ("runpod", "/pods"),
    "network volume": ("runpod", "/network-volumes"),
    "vm": ("lyceum", f"{LYCEUM}/vms"),
    "block volume": ("lyceum", f"{LYCEUM}/storage/block"),
}
"""Where a thing of that kind is."""
LIMIT_SECONDS = 240.0
"""A command that takes longer hangs."""


@dataclass(frozen=True)
class Thing:
    """Something that costs money or gives rights."""

    id: str
    kind: str
    state: str
    tags: Mapping[str, str]
    attached_to: tuple[str, ...] = ()
    zone: str = ""
    size_gib: int = 0


@dataclass(frozen=True)
class Done:
    """A command that has ended."""

    code: int
    out: str
    err: str
    seconds: float
    hung: bool = False
    calls: tuple[Call, ...] = ()
    """What it asked of AWS, where it ran behind the proxy."""

    @property
    def faults(self) -> tuple[str, ...]:
        """The calls that went wrong, by name."""
        return tuple(call.name for call in self.calls if call.fault)


@dataclass
class Account:
    """A sandbox for faults. Use it as a context manager."""

    info: SandboxInfo
    folder: Path
    """For the command line's own files and for projects."""
    environment: dict[str, str] = field(default_factory=dict)

    @contextlib.contextmanager
    def opened(self) -> Iterator[Account]:
        """The proxy runs within the block."""
        gateway = json.loads((self.info.home / "sandbox.json").read_text())["gateway"] or "127.0.0.1"
        for name in ("work", "run"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        (self.folder / "run").chmod(0o700)
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("AWS_", "RUNCTL_"))}
        self.environment = {
            **kept,
            **self.info.environment(),
            "XDG_DATA_HOME": str(self.folder / "data"),
            "XDG_CONFIG_HOME": str(self.folder / "config"),
            "XDG_STATE_HOME": str(self.folder / "state"),
            "XDG_RUNTIME_DIR": str(self.folder / "run"),
            "PATH": f"{RUNCTL.parent}:{os.environ['PATH']}",
            "NO_COLOR": "1",
        }

        def is_command(peer: str) -> bool:
            return peer == gateway or peer.rpartition(".")[0] != gateway.rpartition(".")[0]

        # Machines reach the gateway only: what they fetch by a presigned address passes through the proxy as well.
        with FaultProxy(self.info.endpoint_url, host=gateway, counts=is_command) as self.proxy:
            yield self

    def run(self, *argv: str, cwd: Path | None = None, fault: str = "", **arm: Any) -> Done:
        """Carry a command out; with ``fault`` or ``arm``, behind the proxy (see `FaultProxy.arm`)."""
        faulty = bool(fault or arm)
        endpoint = self.proxy.url if faulty else self.info.endpoint_url
        began = time.monotonic()
        process = client.start(
            argv,
            cwd=cwd or self.folder / "work",
            env={
                **self.environment,
                "AWS_ENDPOINT_URL": endpoint,
                SANDBOX_VARIABLE: endpoint,
                **{f"RUNCTL_{name.upper()}_BASE_URL": f"{endpoint}/{name}" for name in ("runpod", "lyceum")},
            },
            held=True,
        )
        if faulty:
            self.proxy.arm(fault, process_id=process.pid, **arm)
        process.go()
        hung = False
        try:
            out, err = process.communicate(LIMIT_SECONDS)
        except subprocess.TimeoutExpired as error:
            hung, out, err = True, error.output or b"", error.stderr or b""
        return Done(
            process.wait(),
            out.decode(errors="replace"),
            err.decode(errors="replace"),
            round(time.monotonic() - began, 2),
            hung,
            tuple(self.proxy.calls) if faulty else (),
        )

    def ok(self, *argv: str, cwd: Path | None = None) -> str:
        """What a command that must succeed writes."""
        done = self.run(*argv, cwd=cwd)
        assert done.code == 0, f"runctl {' '.join(argv)}: {done.code}\n{done.err}"
        return done.out.strip()

    @cached_property
    def ec2(self) -> Any:
        """boto3's client, past the proxy."""
        return self._client("ec2")

    @cached_property
    def user(self) -> str:
        """What the commands' own resources have as their owner."""
        return str(self._client("sts").get_caller_identity()["Arn"]).rpartition("/")[2].rpartition(":")[2]

    @cached_property
    def iam(self) -> Any:
        """The same for roles."""
        return self._client("iam")

    @cached_property
    def s3(self) -> Any:
        """The same for buckets."""
        return self._client("s3")

    def client(self, service: str) -> Any:
        """The same for any other service."""
        if service not in self._clients:
            self._clients[service] = self._client(service)
        return self._clients[service]

    @cached_property
    def _clients(self) -> dict[str, Any]:
        return {}

    def _client(self, service: str) -> Any:
        keys = self.info.environment()
        return boto3.client(
            service,  # type: ignore[call-overload]
            endpoint_url=self.info.endpoint_url,
            region_name=self.info.region,
            aws_access_key_id=keys["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=keys["AWS_SECRET_ACCESS_KEY"],
            config=Config(s3={"addressing_style": "path"}),
        )

    def things(self) -> dict[str, Thing]:
        """Everything that costs money or gives rights, by id."""
        found = [*self._of_ec2(), *self._of_iam(), *self._of_s3(), *self._of_clouds()]
        return {thing.id: thing for thing in found}

    def _of_ec2(self) -> Iterator[Thing]:
        roots = set()
        for reservation in self.ec2.describe_instances()["Reservations"]:
            for item in reservation["Instances"]:
                if item["State"]["Name"] in {"terminated", "shutting-down"}:
                    continue
                root = item.get("RootDeviceName")
                roots |= {
                    m["Ebs"]["VolumeId"] for m in item["BlockDeviceMappings"] if m["DeviceName"] == root
                }
                yield Thing(item["InstanceId"], "instance", item["State"]["Name"], _tags(item))
        for item in self.ec2.describe_volumes()["Volumes"]:
            if item["State"] in {"deleting", "deleted"}:
                continue
            yield Thing(
                item["VolumeId"],
                "root disk" if item["VolumeId"] in roots else "volume",
                item["State"],
                _tags(item),
                tuple(attachment["InstanceId"] for attachment in item["Attachments"]),
                item["AvailabilityZone"],
                item["Size"],
            )
        for item in self.ec2.describe_snapshots(OwnerIds=["self"])["Snapshots"]:
            yield Thing(item["SnapshotId"], "snapshot", item["State"], _tags(item))
        for item in self.ec2.describe_spot_instance_requests()["SpotInstanceRequests"]:
            if item["State"] in {"open", "active"}:
                on = tuple(filter(None, [item.get("InstanceId")]))
                yield Thing(item["SpotInstanceRequestId"], "spot request", item["State"], _tags(item), on)
        for item in self.ec2.describe_security_groups()["SecurityGroups"]:
            if item["GroupName"] != "default":
                yield Thing(item["GroupId"], "security group", "", _tags(item))

    def _of_iam(self) -> Iterator[Thing]:
        for item in self.iam.list_roles()["Roles"]:
            if item["Path"].startswith("/aws-service-role/"):
                # A service's own role, one for the account, free and for the service to keep.
                continue
            tags = self.iam.list_role_tags(RoleName=item["RoleName"])
            yield Thing(f"role/{item['RoleName']}", "role", "", _tags(tags))
        for item in self.iam.list_instance_profiles()["InstanceProfiles"]:
            yield Thing(f"profile/{item['InstanceProfileName']}", "instance profile", "", _tags(item))

    def _of_s3(self) -> Iterator[Thing]:
        for bucket in self.s3.list_buckets()["Buckets"]:
            name, tags = bucket["Name"], {}
            with contextlib.suppress(self.s3.exceptions.ClientError):
                tags = _tags({"Tags": self.s3.get_bucket_tagging(Bucket=name)["TagSet"]})
            yield Thing(f"bucket/{name}", "bucket", "", tags)
            for item in self.s3.list_objects_v2(Bucket=name, Prefix="staging/").get("Contents", ()):
                yield Thing(f"object/{name}/{item['Key']}", "staging object", "", {})

    def _of_clouds(self) -> Iterator[Thing]:
        yield from _machines(self._read("runpod", "/pods")["pods"], "pod", "id")
        for item in self._read("runpod", "/network-volumes")["networkVolumes"]:
            yield Thing(item["id"], "network volume", "", {}, zone=item["dataCenter"], size_gib=item["size"])
        yield from _machines(self._read("lyceum", f"{LYCEUM}/vms/list")["vms"], "vm", "vm_id")
        for item in self._read("lyceum", f"{LYCEUM}/storage/block")["volumes"]:
            on = tuple(filter(None, [item.get("attached_vm_id")]))
            yield Thing(item["volume_id"], "block volume", item["status"], {}, on, size_gib=item["size_gb"])

    def _read(self, cloud: str, path: str, method: str = "GET") -> Any:
        """What a REST API answers, past the proxy and runctl."""
        key = self.environment[f"{cloud.upper()}_API_KEY"]
        request = urllib.request.Request(
            f"{self.info.endpoint_url}/{cloud}{path}",
            headers={"Authorization": f"Bearer {key}", "User-Agent": "faults"},
            method=method,
        )
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=30) as answer:
            return json.loads(answer.read() or b"null")

    def clean(self, keep: frozenset[str] = frozenset()) -> None:
        """Of instances, volumes, snapshots and staging objects only ``keep`` is left."""
        ended = [t.id for t in self.things().values() if t.kind == "instance" and t.id not in keep]
        if ended:
            self.ec2.terminate_instances(InstanceIds=ended)
        for thing in self.things().values():
            if thing.kind == "volume" and set(thing.attached_to) & keep:
                self.run("aws", "ebs", "detach", thing.id, "--force", "--yes")
        until(lambda: not self._delete_volumes(keep), what="the volumes to go", left=self.things)
        # Machines before the volumes that they have.
        for kind, (cloud, path) in CLOUD_PATHS.items():
            for thing in self.things().values():
                if thing.kind == kind and thing.id not in keep:
                    self._read(cloud, f"{path}/{thing.id}", "DELETE")
        for thing in self.things().values():
            if thing.kind == "snapshot":
                self.ec2.delete_snapshot(SnapshotId=thing.id)
            if thing.kind == "staging object":
                _, bucket, key = thing.id.split("/", 2)
                self.s3.delete_object(Bucket=bucket, Key=key)

    def _delete_volumes(self, keep: frozenset[str]) -> list[Thing]:
        """Those that are still there."""
        left = [t for t in self.things().values() if t.kind in {"volume", "root disk"} and t.id not in keep]
        left = [t for t in left if not (t.kind == "root disk" and set(t.attached_to) & keep)]
        for thing in left:
            with contextlib.suppress(self.ec2.exceptions.ClientError):
                self.ec2.delete_volume(VolumeId=thing.id)
        return left


def until(
    condition: Callable[[], bool], *, seconds: float = 30, what: str, left: Callable[[], object] | None = None
) -> None:
    """It has come about. Raises `AssertionError`, with what is ``left`` then."""
    limit = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < limit, f"waited {seconds:.0f} s for {what}: {left() if left else ''}"
        time.sleep(0.1)


def _machines(items: Sequence[Mapping[str, Any]], kind: str, key: str) -> Iterator[Thing]:
    for item in items:
        if item["status"].lower() not in {"terminated", "failed", "error"}:
            yield Thing(item[key], kind, item["status"], {})


def _tags(item: Mapping[str, Any]) -> dict[str, str]:
    return {tag["Key"]: tag.get("Value", "") for tag in item.get("Tags") or ()}
