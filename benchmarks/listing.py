"""A listing of 1,000 instances: the AWS provider against plain boto3, both in this process, one server for both."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

from benchmarks.free_port import free_port
from benchmarks.measure import Result, interleaved

INSTANCES = 1000
REGION = "us-east-1"
SETTINGS = {
    "AWS_ACCESS_KEY_ID": "benchmark",
    "AWS_SECRET_ACCESS_KEY": "benchmark",
    "AWS_REGION": REGION,
    "AWS_DEFAULT_REGION": REGION,
    "AWS_EC2_METADATA_DISABLED": "true",
}


def measure() -> Iterator[Result]:
    """One listing after the other, with connections that are open."""
    from runctl.core.config import Config
    from runctl.core.progress import SILENT
    from runctl.providers.aws.settings import AwsConfig
    from runctl.providers.registry import load

    with server() as endpoint, environment({**SETTINGS, "AWS_ENDPOINT_URL": endpoint}):
        import boto3

        client = boto3.client("ec2")
        populate(client)
        provider = load("aws", Config(provided=(AwsConfig(region=REGION),)), progress=SILENT)

        def ours() -> None:
            assert len(provider.instances(everyone=True)) == INSTANCES

        def theirs() -> None:
            pages = client.get_paginator("describe_instances").paginate()
            assert (
                sum(len(group["Instances"]) for page in pages for group in page["Reservations"]) == INSTANCES
            )

        yield interleaved(
            f"listing {INSTANCES:,} instances", ours, "boto3's paginator", theirs, rounds=7, target=1.3
        )


def populate(client: Any) -> None:
    """A thousand instances with the tags that runctl gives."""
    tags = [{"Key": "Name", "Value": "benchmark"}, {"Key": "runctl:managed", "Value": "true"}]
    for _ in range(INSTANCES // 100):
        client.run_instances(
            ImageId="ami-12c6146b",
            InstanceType="m5.large",
            MinCount=100,
            MaxCount=100,
            TagSpecifications=[{"ResourceType": "instance", "Tags": tags}],
        )


@contextlib.contextmanager
def server() -> Iterator[str]:
    """moto's server in a process of its own, on loopback."""
    port = free_port()
    endpoint = f"http://127.0.0.1:{port}"
    argv = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            wait_until_it_answers(endpoint, process)
            yield endpoint
        finally:
            process.terminate()


def wait_until_it_answers(endpoint: str, process: subprocess.Popen[bytes]) -> None:
    """Returns when it does; raises when it ended or took half a minute."""
    deadline = time.monotonic() + 30
    while True:
        try:
            with urllib.request.urlopen(f"{endpoint}/moto-api/", timeout=5):
                return
        except (urllib.error.URLError, OSError):
            if process.poll() is not None or time.monotonic() > deadline:
                raise
            time.sleep(0.05)


@contextlib.contextmanager
def environment(values: dict[str, str]) -> Iterator[None]:
    """These variables and no others of AWS's, then as before."""
    before = dict(os.environ)
    try:
        for name in [name for name in os.environ if name.startswith("AWS_") and name != "AWS_CA_BUNDLE"]:
            del os.environ[name]
        os.environ.update(values)
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
