"""ECR, as far as an API without images can show; with images see tests/containers/test_ecr.py."""

from __future__ import annotations

import json

import pytest

from runctl.core.errors import Conflict, NotFound, PermissionDenied
from runctl.core.progress import SILENT
from runctl.providers.aws.aws_provider import AwsProvider
from runctl.providers.aws.calls.session import AwsSession
from runctl.providers.aws.context import AwsContext
from runctl.providers.aws.ecr import EcrRegistry, lifecycle_policy, platform_of

NAME = "runctl/digits"


@pytest.mark.parametrize(
    ("instance_type", "platform"),
    [
        ("t3.medium", "linux/amd64"),
        ("t4g.nano", "linux/arm64"),
        ("g5.xlarge", "linux/amd64"),
        ("g5g.xlarge", "linux/arm64"),
        ("g6e.12xlarge", "linux/amd64"),
        ("gr6.4xlarge", "linux/amd64"),
        ("p5en.48xlarge", "linux/amd64"),
        ("p6e-gb200.36xlarge", "linux/arm64"),
        ("c7gn.large", "linux/arm64"),
        ("m7i-flex.large", "linux/amd64"),
        ("c8g-flex.large", "linux/arm64"),
        ("x2gd.metal", "linux/arm64"),
        ("im4gn.large", "linux/arm64"),
        ("is4gen.medium", "linux/arm64"),
        ("hpc7g.4xlarge", "linux/arm64"),
        ("a1.medium", "linux/arm64"),
        ("trn1.2xlarge", "linux/amd64"),
        ("u-6tb1.metal", "linux/amd64"),
        ("mac1.metal", "linux/amd64"),
    ],
)
def test_the_name_of_a_type_tells_its_architecture(instance_type: str, platform: str) -> None:
    assert platform_of(instance_type) == platform


def test_the_lifecycle_rule_spares_caches_and_counts_the_rest() -> None:
    rules = json.loads(lifecycle_policy(7))["rules"]

    assert [rule["rulePriority"] for rule in rules] == [1, 2, 3]
    assert rules[0]["selection"]["tagPatternList"] == ["*cache*"]
    assert (rules[1]["selection"]["tagStatus"], rules[1]["selection"]["countUnit"]) == ("untagged", "days")
    # A rule for any tag must be the last one.
    assert rules[2]["selection"] == {
        "tagStatus": "any",
        "countType": "imageCountMoreThan",
        "countNumber": 7,
    }


@pytest.mark.parametrize(
    ("host", "owned"),
    [
        ("123456789012.dkr.ecr.eu-west-1.amazonaws.com", True),
        ("123456789012.dkr.ecr-fips.us-east-1.amazonaws.com", True),
        ("123456789012.dkr.ecr.cn-north-1.amazonaws.com.cn", True),
        ("123456789012.dkr-ecr.us-east-1.on.aws", True),
        ("123456789012.dkr.ecr.eu-west-1.amazonaws.com.evil.example", False),
        ("ghcr.io", False),
        ("docker.io", False),
    ],
)
def test_a_registry_of_aws_is_known_by_its_host(context: AwsContext, host: str, owned: bool) -> None:
    assert EcrRegistry(context).owns(host) is owned


def test_a_repository_is_planned_made_and_found_again(provider: AwsProvider, session: AwsSession) -> None:
    plan = provider.registry.plan_repository(NAME, keep_images=5)
    assert (plan.exists, plan.uri.endswith(f"/{NAME}"), len(plan.will_create)) == (False, True, 1)
    assert provider.registry.repositories() == ()

    provider.registry.ensure_repository(plan, project="digits", progress=SILENT)
    provider.registry.ensure_repository(plan, project="digits", progress=SILENT)
    second = provider.registry.plan_repository(NAME, keep_images=5)
    more = provider.registry.plan_repository(NAME, keep_images=6)
    (found,) = provider.registry.repositories()

    assert (second.exists, second.will_create) == (True, ())
    assert more.will_create == (f"lifecycle rule of ECR repository {NAME}: the newest 6 images stay",)
    assert (found.name, found.ours, found.project) == (NAME, True, "digits")
    assert provider.registry.images(NAME) == ()
    policy = session.ecr.get_lifecycle_policy(repositoryName=NAME)["lifecyclePolicyText"]
    assert json.loads(policy) == json.loads(lifecycle_policy(5))


def test_what_is_not_tagged_ours_is_neither_used_nor_changed(
    provider: AwsProvider, session: AwsSession
) -> None:
    session.ecr.create_repository(repositoryName=NAME, tags=[{"Key": "team", "Value": "a"}])

    with pytest.raises(Conflict) as refused:
        provider.registry.plan_repository(NAME, keep_images=5)
    with pytest.raises(PermissionDenied):
        provider.registry.delete_images(NAME, ["sha256:" + "0" * 64])

    assert refused.value.code == "not-ours"
    assert provider.registry.repositories() == ()
    assert [repository.ours for repository in provider.registry.repositories(everyone=True)] == [False]


def test_images_of_no_repository_are_not_found(provider: AwsProvider) -> None:
    with pytest.raises(NotFound):
        provider.registry.images("runctl/none")
    with pytest.raises(NotFound):
        provider.registry.delete_images("runctl/none", ["sha256:" + "0" * 64])


def test_a_token_names_its_registry_and_hides_itself(provider: AwsProvider) -> None:
    login = provider.registry.login()

    assert login.username == "AWS"
    assert login.host
    assert login.password not in repr(login)
