"""The sandbox's account as tests use it: boto3 clients, machines that end with the test, and ways into them."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

from runctl.sandbox.connection import SandboxInfo

AMAZON_LINUX = "/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-x86_64"
DEEP_LEARNING = "/aws/service/deeplearning/ami/x86_64/base-oss-nvidia-driver-gpu-ubuntu-22.04/latest/ami-id"
ZONE = "us-east-1a"

T = TypeVar("T")


def until(check: Callable[[], T], what: str | Callable[[], str], seconds: float = 20) -> T:
    """The first true answer; ``what`` is said where there is none in time."""
    deadline = time.monotonic() + seconds
    while not (answer := check()):
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {seconds} s for {what if isinstance(what, str) else what()}")
        time.sleep(0.05)
    return answer


def code_of(error: ClientError) -> str:
    """AWS's error code."""
    return str(error.response["Error"]["Code"])


class Account:
    """Clients of one sandbox, and what a test has made with them."""

    def __init__(self, info: SandboxInfo, folder: Path) -> None:
        self.info = info
        self.folder = folder
        text = info.environment()
        self.session = boto3.Session(
            aws_access_key_id=text["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=text["AWS_SECRET_ACCESS_KEY"],
            region_name=text["AWS_REGION"],
        )

    def client(self, service: str, **more: Any) -> Any:
        """A boto3 client that does not retry: a refusal is what is looked at."""
        config = Config(retries={"total_max_attempts": 1}, proxies={})
        return self.session.client(
            service,  # type: ignore[call-overload]
            endpoint_url=self.info.endpoint_url,
            config=config,
            **more,
        )

    @cached_property
    def ec2(self) -> Any:
        """EC2 and EBS."""
        return self.client("ec2")

    @cached_property
    def ssm(self) -> Any:
        """Systems Manager."""
        return self.client("ssm")

    @cached_property
    def s3(self) -> Any:
        """S3, addressed by path."""
        return self.client("s3")

    @cached_property
    def image(self) -> str:
        """Amazon Linux 2023."""
        return str(self.ssm.get_parameter(Name=AMAZON_LINUX)["Parameter"]["Value"])

    @cached_property
    def key_file(self) -> Path:
        """The private key whose public half is the key pair ``tester``."""
        path = self.folder / "key"
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)], check=True)
        public = path.with_suffix(".pub").read_bytes()
        self.ec2.import_key_pair(KeyName="tester", PublicKeyMaterial=public)
        return path

    @cached_property
    def open_group(self) -> str:
        """A security group that lets SSH in from anywhere."""
        created = self.ec2.create_security_group(GroupName="ssh-from-anywhere", Description="tests")
        self.ec2.authorize_security_group_ingress(
            GroupId=created["GroupId"],
            IpPermissions=[
                {"IpProtocol": "tcp", "FromPort": 22, "ToPort": 22, "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}
            ],
        )
        return str(created["GroupId"])

    def launch(self, *, user: str = "ec2-user", seconds: float = 30, **more: Any) -> Machine:
        """A machine that runs, and that SSH can reach with the key; ``more`` is for RunInstances."""
        self.key_file  # noqa: B018 (makes the key pair)
        wanted = {"ImageId": self.image, "InstanceType": "t3.micro", "MinCount": 1, "MaxCount": 1}
        (created,) = self.ec2.run_instances(
            **wanted | {"KeyName": "tester", "SecurityGroupIds": [self.open_group]} | more
        )["Instances"]
        return Machine(self, self.wait_state(created["InstanceId"], "running", seconds), user)

    def describe(self, instance_id: str) -> dict[str, Any]:
        """The instance as DescribeInstances shows it."""
        answer = self.ec2.describe_instances(InstanceIds=[instance_id])
        return dict(answer["Reservations"][0]["Instances"][0])

    def state(self, instance_id: str) -> str:
        """The name of its state."""
        return str(self.describe(instance_id)["State"]["Name"])

    def wait_state(self, instance_id: str, state: str, seconds: float = 30) -> dict[str, Any]:
        """The instance, once it is in that state."""
        until(lambda: self.state(instance_id) == state, f"{instance_id} to be {state}", seconds)
        return self.describe(instance_id)

    def volume(self, volume_id: str) -> dict[str, Any]:
        """The volume as DescribeVolumes shows it."""
        return dict(self.ec2.describe_volumes(VolumeIds=[volume_id])["Volumes"][0])

    def wait_volume(self, volume_id: str, state: str) -> dict[str, Any]:
        """The volume, once it is in that state."""
        until(lambda: self.volume(volume_id)["State"] == state, f"{volume_id} to be {state}")
        return self.volume(volume_id)

    def snapshot(self, volume_id: str, **more: Any) -> dict[str, Any]:
        """A snapshot of the volume, once it is completed."""
        created = self.ec2.create_snapshot(VolumeId=volume_id, **more)["SnapshotId"]

        def found() -> dict[str, Any]:
            return dict(self.ec2.describe_snapshots(SnapshotIds=[created])["Snapshots"][0])

        until(lambda: found()["State"] == "completed", f"{created} to be completed")
        return found()


class Machine:
    """A running instance, reached by SSH."""

    def __init__(self, account: Account, described: Mapping[str, Any], user: str) -> None:
        self.account = account
        self.id = str(described["InstanceId"])
        self.address = str(described["PublicIpAddress"])
        self.zone = str(described["Placement"]["AvailabilityZone"])
        self.user = user

    def ssh(self, script: str, *, timeout: float = 60) -> subprocess.CompletedProcess[str]:
        """Run a shell script as the login user."""
        options = ["StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "LogLevel=ERROR"]
        options += ["BatchMode=yes", "ConnectTimeout=5", "IdentitiesOnly=yes"]
        argv = [word for option in options for word in ("-o", option)]
        return subprocess.run(
            ["ssh", *argv, "-i", str(self.account.key_file), f"{self.user}@{self.address}", script],
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
            stdin=subprocess.DEVNULL,
        )

    def run(self, script: str, *, timeout: float = 60) -> str:
        """Its stdout; it must end well."""
        done = self.ssh(script, timeout=timeout)
        assert done.returncode == 0, f"{script!r} ended with {done.returncode}: {done.stdout}{done.stderr}"
        return done.stdout

    def root(self, script: str, *, timeout: float = 60) -> str:
        """The same as root. The script goes through stdin of a shell, unquoted."""
        return self.run(f"sudo sh -e <<'SCRIPT'\n{script}\nSCRIPT", timeout=timeout)

    def disk(self, volume_id: str) -> str:
        """Where the volume is, by its id."""
        return f"/dev/disk/by-id/nvme-Amazon_Elastic_Block_Store_{volume_id.replace('-', '')}"

    def attach(self, volume_id: str, device: str = "/dev/sdf") -> None:
        """Attach, and wait until EC2 says so."""
        self.account.ec2.attach_volume(VolumeId=volume_id, InstanceId=self.id, Device=device)
        until(
            lambda: [a["State"] for a in self.account.volume(volume_id)["Attachments"]] == ["attached"],
            f"{volume_id} to be attached",
        )
