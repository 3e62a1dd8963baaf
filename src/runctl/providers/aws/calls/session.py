"""Who we are at AWS and where: boto3's clients, created when they are first needed.

By botocore, which makes them for boto3 too: boto3 adds resources and transfers, whose import takes longer than
EC2's answer.
"""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from runctl._dataclasses import dataclass
from runctl._version import __version__
from runctl.core.config import SANDBOX_VARIABLE
from runctl.core.errors import Unsupported
from runctl.core.journal import Journal
from runctl.core.progress import Progress
from runctl.providers.aws.calls import answers, changes, retries, slow_calls
from runctl.providers.aws.calls.errors import no_region, not_answering, our_errors
from runctl.providers.aws.calls.filters import keep_literal
from runctl.providers.aws.calls.mfa import remember_roles

if TYPE_CHECKING:
    from botocore.session import Session
    from mypy_boto3_ec2 import EC2Client
    from mypy_boto3_ec2_instance_connect import EC2InstanceConnectClient
    from mypy_boto3_ecr import ECRClient
    from mypy_boto3_iam import IAMClient
    from mypy_boto3_pricing import PricingClient
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_ssm import SSMClient
    from mypy_boto3_sts import STSClient


@dataclass(frozen=True)
class Identity:
    """Who the credentials belong to."""

    account: str
    arn: str

    @property
    def name(self) -> str:
        """The user's name, the role session's, or ``root``."""
        return self.arn.rsplit("/", 1)[-1] if "/" in self.arn else self.arn.rsplit(":", 1)[-1]

    @property
    def partition(self) -> str:
        """``aws``, ``aws-cn``, ``aws-us-gov``, ``aws-eusc``, …"""
        return self.arn.split(":")[1]


CONNECT_SECONDS = 5
ANSWER_SECONDS = 20
"""How long one request waits for an answer to begin."""
OBJECT_SECONDS = 60
"""The same for S3, which answers an upload only after its last byte."""

ATTEMPTS = 5
ATTEMPTS_ELSEWHERE = 3
"""Of a call in a region that is one of many: whoever asks all of them does not wait minutes for a dead one."""

INFORMATION = frozenset({"pricing", "service-quotas"})
"""Services that are not worth waiting for: there is the snapshot of prices, and EC2 enforces its quotas itself."""


class AwsSession:
    """Clients for one profile and region. Safe to use from several threads."""

    def __init__(self, *, region: str | None, profile: str | None, journal: Journal | None = None) -> None:
        """``journal`` hears of every call that changes something."""
        self.journal = journal or Journal()
        self._wanted_region = region
        self._profile = profile
        self._clients: dict[str, Any] = {}
        self._lock = threading.RLock()
        self._waits = slow_calls.Waits()
        self._attempts = ATTEMPTS
        self._origin: AwsSession | None = None
        self._elsewhere: dict[str, AwsSession] = {}
        self._watchers: list[Callable[[Any], None]] = []

    def in_region(self, region: str) -> AwsSession:
        """The same user in another region; clients are made for it alone."""
        if self._origin is not None:
            return self._origin.in_region(region)
        if region == self._wanted_region:
            return self
        with self._lock:
            if region not in self._elsewhere:
                other = AwsSession(region=region, profile=self._profile, journal=self.journal)
                other._origin, other._lock, other._waits = self, self._lock, self._waits
                other._attempts, other._watchers = ATTEMPTS_ELSEWHERE, self._watchers
                self._elsewhere[region] = other
            return self._elsewhere[region]

    def report_to(self, progress: Progress) -> None:
        """Say there from now on when an answer takes long."""
        self._waits.progress = progress

    def watch_clients(self, watcher: Callable[[Any], None]) -> None:
        """``watcher`` is given every client, of every region, those too that are made later, before its next call."""
        with self._lock:
            self._watchers.append(watcher)
            for session in (self, *self._elsewhere.values()):
                for client in session._clients.values():
                    watcher(client)

    @property
    def profile(self) -> str | None:
        """The profile that was asked for by name or in the configuration."""
        return self._profile

    @property
    def endpoint(self) -> str | None:
        """The address that stands in for AWS (the sandbox's), ``None`` for AWS itself."""
        return os.environ.get("AWS_ENDPOINT_URL") or None

    @property
    def in_sandbox(self) -> bool:
        """Whether EC2 is runctl's sandbox, where nothing costs money.

        Only `runctl sandbox env` sets that variable; one that was left behind counts for nothing once the endpoint is
        another.
        """
        sandbox = os.environ.get(SANDBOX_VARIABLE)
        return bool(sandbox) and sandbox == self.ec2.meta.endpoint_url

    @cached_property
    def region(self) -> str:
        """From flags and configuration, then ``AWS_REGION``, then what botocore finds. Raises `ConfigError`."""
        region = (
            self._wanted_region
            or os.environ.get("AWS_REGION")
            or self._botocore.get_config_variable("region")
        )
        if not region:
            raise no_region()
        return region

    @cached_property
    def identity(self) -> Identity:
        """Raises `CredentialsError`."""
        with our_errors(self.endpoint):
            answer = self.sts.get_caller_identity()
        return Identity(answer["Account"], answer["Arn"])

    def plain_client(self, service: str, region: str | None = None) -> Any:
        """boto3's own client, with the same credentials and region. runctl does not hear of what is done with it."""
        import boto3

        with our_errors(self.endpoint):
            session = boto3.Session(botocore_session=self._botocore, region_name=region or self.region)
            make: Any = session.client
            return make(service)

    @property
    def ec2(self) -> EC2Client:
        """EC2 and EBS."""
        client: EC2Client = self._client("ec2")
        return client

    @property
    def ssm(self) -> SSMClient:
        """Systems Manager: commands and public parameters."""
        client: SSMClient = self._client("ssm")
        return client

    @property
    def ecr(self) -> ECRClient:
        """Container images."""
        client: ECRClient = self._client("ecr")
        return client

    @property
    def autoscaling(self) -> Any:
        """EC2 Auto Scaling."""
        return self._client("autoscaling")

    @property
    def iam(self) -> IAMClient:
        """Roles and instance profiles."""
        client: IAMClient = self._client("iam")
        return client

    @property
    def sts(self) -> STSClient:
        """Who am I."""
        client: STSClient = self._client("sts")
        return client

    @property
    def s3(self) -> S3Client:
        """Staging."""
        client: S3Client = self._client("s3")
        return client

    @property
    def instance_connect(self) -> EC2InstanceConnectClient:
        """EC2 Instance Connect."""
        client: EC2InstanceConnectClient = self._client("ec2-instance-connect")
        return client

    @property
    def pricing(self) -> PricingClient:
        """The price list, which AWS serves from a few regions only, for all of them."""
        if self._origin is not None:
            return self._origin.pricing
        region = self._pricing_region() if self.endpoint is None else self.region
        client: PricingClient = self._client("pricing", region=region)
        return client

    @cached_property
    def cost_explorer(self) -> Any:
        """Cost Explorer; each request is billed. Raises `Unsupported` where AWS has none."""
        return self._of_the_account("ce", "Cost Explorer")

    @cached_property
    def budgets(self) -> Any:
        """Of the whole account; boto3's. Raises `Unsupported` where AWS has none."""
        return self._of_the_account("budgets", "Budgets")

    @property
    def cloudwatch(self) -> Any:
        """Measurements; each series that is asked for is billed. boto3's."""
        return self._client("cloudwatch")

    @property
    def quotas(self) -> Any:
        """Service Quotas: what the account may have."""
        return self._client("service-quotas")

    def _of_the_account(self, service: str, title: str) -> Any:
        """A service that is once in each partition that has it: botocore knows where."""
        partition = self._botocore.get_partition_for_region(self.region)
        if self.endpoint is None and not self._botocore.get_available_regions(
            service, partition_name=partition, allow_non_regional=True
        ):
            raise Unsupported(
                f"AWS has no {title} in {self.region}, whose partition is {partition}",
                hint="use the account that pays for this one, in another partition",
            )
        return self._client(service)

    def _pricing_region(self) -> str:
        partition = self._botocore.get_partition_for_region(self.region)
        regions = self._botocore.get_available_regions("pricing", partition_name=partition)
        return "us-east-1" if "us-east-1" in regions else next(iter(regions), self.region)

    @cached_property
    def _botocore(self) -> Session:
        if self._origin is not None:
            return self._origin._botocore
        from botocore.session import Session

        from runctl.providers.aws.calls.botocore_loader import loader
        from runctl.providers.aws.calls.parse import parse_time
        from runctl.providers.aws.calls.xml_answers import QuickParsers

        with self._lock, our_errors(self.endpoint):
            session = Session()
            session.register_component("data_loader", loader(session.get_config_variable("data_path")))
            parsers = QuickParsers()
            parsers.set_parser_defaults(timestamp_parser=parse_time)
            session.register_component("response_parser_factory", parsers)
            # The sandbox has one account, whose keys are in the environment: a profile is of another.
            leads_into_sandbox = self.endpoint is not None and self.endpoint == os.environ.get(
                SANDBOX_VARIABLE
            )
            profile = None if leads_into_sandbox else self._profile
            if profile is not None:
                session.set_config_variable("profile", profile)
            region = self._wanted_region or os.environ.get("AWS_REGION")
            if region:
                # A role is assumed in the region that was asked for, too.
                session.set_config_variable("region", region)
            remember_roles(session)
            return session

    def _client(self, service: str, *, region: str | None = None) -> Any:
        with self._lock:
            if service not in self._clients:
                from botocore.config import Config

                self._check_stand_in()

                # Presigned addresses are used from machines in the region: they must name it.
                own_s3 = self.endpoint or os.environ.get("AWS_ENDPOINT_URL_S3")
                addressing: Any = {"addressing_style": "path" if own_s3 else "virtual"}
                config = Config(
                    connect_timeout=CONNECT_SECONDS,
                    read_timeout=OBJECT_SECONDS if service == "s3" else ANSWER_SECONDS,
                    retries={
                        "mode": "standard",
                        "total_max_attempts": 2 if service in INFORMATION else self._attempts,
                    },
                    user_agent_extra=f"runctl/{__version__}",
                    signature_version="s3v4" if service == "s3" else None,
                    s3=addressing if service == "s3" else None,
                )
                with our_errors(self.endpoint):
                    make: Any = self._botocore.create_client
                    client = make(service, region_name=region or self.region, config=config)
                if service == "ec2":
                    keep_literal(client)
                for module in (retries, answers):
                    module.watch(client)
                slow_calls.watch(client, self._waits)
                changes.watch(client, self.journal)
                for watcher in self._watchers:
                    watcher(client)
                self._clients[service] = client
            return self._clients[service]

    def _check_stand_in(self) -> None:
        """Say at once that a sandbox is not running, where botocore would try for many seconds."""
        if self._clients or self.endpoint is None:
            return
        address = urlsplit(self.endpoint)
        port = address.port or (443 if address.scheme == "https" else 80)
        try:
            socket.create_connection((address.hostname or "", port), timeout=5).close()
        except OSError as error:
            raise not_answering(self.endpoint, str(error)) from error
