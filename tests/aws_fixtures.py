"""Fixtures of AWS as moto plays it, in this process, with a way to have calls refused.

Every test has them (``pytest_plugins`` in tests/conftest.py); moto is imported when the first test asks for one.
"""

from __future__ import annotations

import copy
import functools
import urllib.request
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import pytest

from runctl.core.clock import Clock
from runctl.core.config import Config, ProjectConfig
from runctl.providers.aws.aws_provider import AwsProvider
from runctl.providers.aws.calls.changes import watch
from runctl.providers.aws.calls.session import AwsSession
from runctl.providers.aws.context import AwsContext
from runctl.providers.aws.iam.roles import DEFAULT_PROFILE
from runctl.providers.aws.prices.book import PriceBook
from runctl.providers.aws.settings import AwsConfig
from runctl.testing.clock import ManualClock
from runctl.testing.progress import RecordedProgress

REGION = "us-east-1"
Refuse = Callable[..., list[dict[str, Any]]]


class OfflinePrices(PriceBook):
    """moto has no price list."""

    def _documents(self, *_: Any) -> None:
        return None


@pytest.fixture(scope="session")
def moto_endpoint() -> Generator[str]:
    """One server for the session; `aws` empties it for each test."""
    from moto.ec2.models import amis
    from moto.kms.utils import generate_private_key
    from moto.server import ThreadedMotoServer

    from runctl.sandbox.api import answer_fields
    from runctl.sandbox.ec2 import filter_patterns, placement_groups
    from runctl.sandbox.s3 import bucket_tags
    from runctl.sandbox.server import name_services_quickly

    answer_fields.install()
    bucket_tags.install()
    filter_patterns.install()
    placement_groups.install()
    name_services_quickly()
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(amis, "load_resource", _without_images_for_ecs)
        patch.setattr("moto.kms.models.generate_private_key", functools.cache(generate_private_key))
        server.start()
        host, port = server.get_host_and_port()
        yield f"http://{host}:{port}"
        server.stop()


def _without_images_for_ecs(path: str) -> Any:
    """For each test moto makes all images anew: a thousand of them for a service that is not used here."""
    from moto.utilities.utils import load_resource

    if "/ecs/" in path:
        raise FileNotFoundError(path)
    return load_resource(path)


@pytest.fixture(scope="session")
def loaded_clients(moto_endpoint: str) -> dict[str, Any]:
    """Making clients is most of what a test would cost; their state is with moto, not in them."""
    with pytest.MonkeyPatch.context() as patch:
        _as_user(patch, moto_endpoint)
        session = AwsSession(region=REGION, profile=None)
        for client in (
            session.ec2,
            session.ssm,
            session.iam,
            session.sts,
            session.s3,
            session.pricing,
            session.quotas,
            session.autoscaling,
        ):
            client.meta.region_name  # noqa: B018
        session.instance_connect.meta.region_name  # noqa: B018
        return session._clients


@pytest.fixture
def aws(moto_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The endpoint of an empty account, in the environment as a user has it."""
    urllib.request.urlopen(urllib.request.Request(f"{moto_endpoint}/moto-api/reset", method="POST")).close()
    _as_user(monkeypatch, moto_endpoint)
    return moto_endpoint


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def progress() -> RecordedProgress:
    return RecordedProgress()


@pytest.fixture
def session(aws: str, loaded_clients: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> AwsSession:
    """A session in an account that has runctl's instance profile already; what is hooked into it goes with it."""
    session = AwsSession(region=REGION, profile=None)
    for name, client in loaded_clients.items():
        monkeypatch.setattr(client.meta, "events", copy.copy(client.meta.events))
        session._clients[name] = client
    session.iam.create_role(RoleName=DEFAULT_PROFILE, AssumeRolePolicyDocument="{}")
    session.iam.create_instance_profile(InstanceProfileName=DEFAULT_PROFILE)
    session.iam.add_role_to_instance_profile(InstanceProfileName=DEFAULT_PROFILE, RoleName=DEFAULT_PROFILE)
    for client in loaded_clients.values():
        watch(client, session.journal)
    return session


def _as_user(patch: pytest.MonkeyPatch, endpoint: str) -> None:
    patch.setenv("AWS_ENDPOINT_URL", endpoint)
    patch.setenv("AWS_ACCESS_KEY_ID", "AKIATESTTESTTESTTEST")
    patch.setenv("AWS_SECRET_ACCESS_KEY", "test")


def context_of(session: AwsSession, clock: Clock, folder: Path, **settings: Any) -> AwsContext:
    """The context for a configuration of ``[aws]`` settings."""
    return AwsContext(
        config=Config(project=ProjectConfig(name="digits"), provided=(AwsConfig(**settings),)),
        session=session,
        clock=clock,
        prices=OfflinePrices(session, clock),
        state_directory=folder / "state",
        cache_directory=folder / "cache",
    )


@pytest.fixture
def context(session: AwsSession, clock: ManualClock, tmp_path: Path) -> AwsContext:
    return context_of(session, clock, tmp_path)


@pytest.fixture
def provider(context: AwsContext) -> AwsProvider:
    return AwsProvider(context)


@pytest.fixture
def refuse(session: AwsSession) -> Refuse:
    """Have AWS refuse an operation: ``refuse(session.ec2, "AttachVolume", "Code", "message", times=1)``.

    Returns the list of the parameters of the calls refused so far.
    """

    def have_refused(
        client: Any, operation: str, code: str, message: str = "no", times: int = 10**6
    ) -> list[dict[str, Any]]:
        refused: list[dict[str, Any]] = []

        def handler(params: Any, **_: Any) -> Any:
            if len(refused) >= times:
                return None
            refused.append(params)
            # What botocore's transport hands on for an error answer.
            answer = type("Answer", (), {"status_code": 400, "headers": {}})()
            return answer, {"Error": {"Code": code, "Message": message}, "ResponseMetadata": {}}

        client.meta.events.register(
            f"before-call.{client.meta.service_model.service_id.hyphenize()}.{operation}", handler
        )
        return refused

    return have_refused
