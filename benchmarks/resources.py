"""``resources list`` against boto3 region after region: 1,000 instances, 5,000 volumes, 10,000 snapshots in 17 regions.

Answers come from a process of its own, which has them ready and lets each wait as long as a round trip to AWS takes
from another continent: what is measured is waiting side by side, and reading the answers.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs

from benchmarks.free_port import free_port
from benchmarks.listing import SETTINGS, environment, wait_until_it_answers
from benchmarks.measure import Result, interleaved

REGIONS = [
    "ap-northeast-1",
    "ap-northeast-2",
    "ap-northeast-3",
    "ap-south-1",
    "ap-southeast-1",
    "ap-southeast-2",
    "ca-central-1",
    "eu-central-1",
    "eu-north-1",
    "eu-west-1",
    "eu-west-2",
    "eu-west-3",
    "sa-east-1",
    "us-east-1",
    "us-east-2",
    "us-west-1",
    "us-west-2",
]
"""Those that an account has from the beginning."""
COUNTS = {"Instance": 1000, "Volume": 5000, "Snapshot": 10000}
ROUND_TRIP_SECONDS = 0.15
PAGE = 1000
TAGS = (
    "<tagSet><item><key>runctl:managed</key><value>true</value></item><item><key>runctl:owner</key><value>ada</value>"
    "</item><item><key>Name</key><value>digits</value></item></tagSet>"
)


def measure() -> Iterator[Result]:
    """Time, and how much memory the list takes."""
    from runctl.core.config import Config
    from runctl.core.progress import SILENT
    from runctl.providers.aws.settings import AwsConfig
    from runctl.providers.registry import load

    with server() as endpoint, environment({**SETTINGS, "AWS_ENDPOINT_URL": endpoint}):
        import boto3

        def ours() -> None:
            # A new one each time: connections and clients are a part of it for both.
            provider = load("aws", Config(provided=(AwsConfig(region="us-east-1"),)), progress=SILENT)
            inventory: Any = provider.inventory
            listing = inventory.list()
            assert listing.unread == (), listing.unread[0]
            assert len(listing.resources) == sum(COUNTS.values())

        def theirs() -> None:
            found = 0
            tagged: Any = [{"Name": "tag:runctl:managed", "Values": ["true"]}]
            for region in REGIONS:
                ec2 = boto3.client("ec2", region_name=region)
                for operation, key in (
                    ("describe_instances", "Reservations"),
                    ("describe_volumes", "Volumes"),
                    ("describe_snapshots", "Snapshots"),
                ):
                    more: Any = {"OwnerIds": ["self"]} if key == "Snapshots" else {}
                    paginator: Any = ec2.get_paginator(operation)  # type: ignore[call-overload]
                    for page in paginator.paginate(
                        Filters=tagged, PaginationConfig={"PageSize": PAGE}, **more
                    ):
                        found += len(page[key])
            assert found == sum(COUNTS.values())

        yield interleaved(
            f"listing {sum(COUNTS.values()):,} resources in {len(REGIONS)} regions, every kind",
            ours,
            "boto3, three kinds, region after region",
            theirs,
            rounds=3,
            target=0.2,
        )
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        yield Result("memory at most, runctl and boto3 in one process", peak, "", None, 1, unit="MiB")


class server:  # noqa: N801 (a context manager)
    """The stand-in in a process of its own."""

    def __enter__(self) -> str:
        port = free_port()
        endpoint = f"http://127.0.0.1:{port}"
        self.process = subprocess.Popen([sys.executable, "-m", "benchmarks.resources", str(port)])
        wait_until_it_answers(endpoint, self.process)
        return endpoint

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        self.process.wait()


_EMPTY = {
    "DescribeSpotInstanceRequests": "spotInstanceRequestSet",
    "DescribeFleets": "fleetSet",
    "DescribeLaunchTemplates": "launchTemplates",
    "DescribeKeyPairs": "keySet",
    "DescribeSecurityGroups": "securityGroupInfo",
    "DescribePlacementGroups": "placementGroupSet",
}
"""The kinds that there are none of."""


def answer_of(action: str, region: str, token: str) -> bytes:
    """What EC2 would answer. Pure."""
    if action == "DescribeRegions":
        inside = "".join(
            f"<item><regionName>{each}</regionName><optInStatus>opt-in-not-required</optInStatus></item>"
            for each in REGIONS
        )
        return _wrapped(action, f"<regionInfo>{inside}</regionInfo>")
    kind = action.removeprefix("Describe").removesuffix("s")
    if kind not in COUNTS:
        return _wrapped(action, f"<{_EMPTY[action]}/>")
    here = [number for number in range(COUNTS[kind]) if REGIONS[number % len(REGIONS)] == region]
    start = int(token or 0)
    more = f"<nextToken>{start + PAGE}</nextToken>" if start + PAGE < len(here) else ""
    items = "".join(_item(kind, number, region) for number in here[start : start + PAGE])
    key = {"Instance": "reservationSet", "Volume": "volumeSet", "Snapshot": "snapshotSet"}[kind]
    return _wrapped(action, f"<{key}>{items}</{key}>{more}")


def _item(kind: str, number: int, region: str) -> str:
    if kind == "Instance":
        return (
            f"<item><reservationId>r-{number:017x}</reservationId><ownerId>123456789012</ownerId><instancesSet><item>"
            f"<instanceId>i-{number:017x}</instanceId><imageId>ami-0123456789abcdef0</imageId><instanceState><code>16"
            "</code><name>running</name></instanceState><instanceType>m7i.large</instanceType><launchTime>2026-05-01"
            f"T12:00:00.000Z</launchTime><placement><availabilityZone>{region}a</availabilityZone></placement>"
            "<privateIpAddress>10.0.0.1</privateIpAddress><architecture>x86_64</architecture>"
            f"{TAGS}</item></instancesSet></item>"
        )
    if kind == "Volume":
        return (
            f"<item><volumeId>vol-{number:017x}</volumeId><size>100</size><availabilityZone>{region}a</availabilityZone>"
            "<status>available</status><createTime>2026-05-01T12:00:00.000Z</createTime><attachmentSet/><volumeType>gp3"
            f"</volumeType><iops>3000</iops><throughput>125</throughput><encrypted>true</encrypted>{TAGS}</item>"
        )
    return (
        f"<item><snapshotId>snap-{number:017x}</snapshotId><volumeId>vol-{number:017x}</volumeId><status>completed"
        "</status><startTime>2026-05-01T12:00:00.000Z</startTime><progress>100%</progress><ownerId>123456789012"
        f"</ownerId><volumeSize>100</volumeSize><description/><encrypted>true</encrypted>{TAGS}</item>"
    )


def _wrapped(action: str, inside: str) -> bytes:
    return f"<{action}Response><requestId>1</requestId>{inside}</{action}Response>".encode()


_KEPT: dict[tuple[str, str, str], bytes] = {}
_OF_OTHERS = {
    "sts": b"<GetCallerIdentityResponse><GetCallerIdentityResult><Arn>arn:aws:iam::123456789012:user/ada</Arn>"
    b"<UserId>A</UserId><Account>123456789012</Account></GetCallerIdentityResult></GetCallerIdentityResponse>",
    "autoscaling": b"<DescribeAutoScalingGroupsResponse><DescribeAutoScalingGroupsResult><AutoScalingGroups/>"
    b"</DescribeAutoScalingGroupsResult></DescribeAutoScalingGroupsResponse>",
    "s3": b"<ListAllMyBucketsResult><Buckets/></ListAllMyBucketsResult>",
    "ecr": json.dumps({"repositories": []}).encode(),
}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        """Nothing."""

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        scope = self.headers.get("Authorization", "").partition("Credential=")[2].partition(",")[0].split("/")
        service, region = (scope[3], scope[2]) if len(scope) > 3 else ("", "")
        form = parse_qs(body.decode(errors="replace"))
        action = form.get("Action", [""])[0]
        if service == "ec2":
            key = (action, region, form.get("NextToken", [""])[0])
            if key not in _KEPT:
                _KEPT[key] = answer_of(*key)
            data = _KEPT[key]
        elif service == "iam":
            what = action.removeprefix("List")
            data = f"<{action}Response><{action}Result><{what}/></{action}Result></{action}Response>".encode()
        else:
            data = _OF_OTHERS.get(service, b"")
        time.sleep(ROUND_TRIP_SECONDS if service else 0)
        self.send_response(200)
        self.send_header("Content-Type", "application/x-amz-json-1.1" if service == "ecr" else "text/xml")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


if __name__ == "__main__":
    ThreadingHTTPServer.request_queue_size = 256
    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), _Handler).serve_forever()
