"""What a caller must be allowed to do for one call of EC2, Systems Manager, IAM or Budgets.

After "Actions, resources, and condition keys" of each service in the Service Authorization Reference: what is made is
asked about by its kind, with the tags that it is to have; what is there by its id, with the tags that it has.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from moto.iam.models import iam_backends

from runctl.sandbox.api.policies import Value
from runctl.sandbox.api.rights import Need
from runctl.sandbox.world import ACCOUNT

_KINDS = {
    "i": "instance",
    "vol": "volume",
    "snap": "snapshot",
    "ami": "image",
    "subnet": "subnet",
    "vpc": "vpc",
    "sg": "security-group",
    "lt": "launch-template",
    "key": "key-pair",
    "fleet": "fleet",
    "sir": "spot-instances-request",
}
"""By the first part of an id, the kind that ARNs have."""
_ID = re.compile(rf"({'|'.join(_KINDS)})-[0-9a-f][0-9a-f-]*")
_NAMES_RESOURCE = re.compile(r".*(Ids?|LaunchTemplateName)(\.\d+)?")
"""Parameters that name a resource."""
_WITHOUT_ACCOUNT = frozenset({"image", "snapshot"})
"""Kinds whose ARNs contain no account."""
_CREATED = {
    "RunInstances": ("instance", "volume", "network-interface"),
    "CreateVolume": ("volume",),
    "CopyVolumes": ("volume",),
    "CreateSnapshot": ("snapshot",),
    "CreateFleet": ("fleet",),
    "CreateLaunchTemplate": ("launch-template",),
    "CreateSecurityGroup": ("security-group",),
    "CreatePlacementGroup": ("placement-group",),
}
_TAGGED_KIND = re.compile(r"TagSpecifications?\.(\d+)\.ResourceType")
_TAG_KEY = re.compile(r"Tag\.\d+\.Key")
_LAUNCHES = frozenset({"RunInstances"})


def ec2_needs(action: str, form: Mapping[str, str], region: str) -> list[Need]:
    """The rights that EC2 asks for. A call that names and makes nothing is allowed for everything or not at all."""
    name = f"ec2:{action}"
    if action.startswith(("Describe", "Get")) and action != "GetConsoleOutput":
        return [Need(name, "*")]
    asked = _request_tags(form)
    needs = [
        Need(name, _arn(region, kind, "*"), {f"aws:RequestTag/{key}": value for key, value in tags.items()})
        for kind, tags in ((kind, asked.get(kind, {})) for kind in _CREATED.get(action, ()))
    ]
    keys = _tag_keys(action, form)
    for kind, resource_id, tags in _named(form, region):
        context: dict[str, Value] = {f"aws:ResourceTag/{key}": value for key, value in tags.items()}
        if keys:
            context["aws:TagKeys"] = keys
        needs.append(Need(name, _arn(region, kind, resource_id), context))
    if action not in ("CreateTags", "DeleteTags"):
        needs += [
            Need(
                "ec2:CreateTags",
                _arn(region, kind, "*"),
                {"ec2:CreateAction": action, **{f"aws:RequestTag/{key}": tags[key] for key in tags}},
            )
            for kind, tags in asked.items()
        ]
    if action in _LAUNCHES:
        needs += list(_passed_roles(form))
    return needs or [Need(name, "*")]


def _arn(region: str, kind: str, resource_id: str) -> str:
    account = "" if kind in _WITHOUT_ACCOUNT else ACCOUNT
    return f"arn:aws:ec2:{region}:{account}:{kind}/{resource_id}"


def _request_tags(form: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """The tags that each kind is to have."""
    found: dict[str, dict[str, str]] = {}
    for parameter, kind in form.items():
        specification = _TAGGED_KIND.fullmatch(parameter)
        if specification is None:
            continue
        before = parameter.removesuffix("ResourceType")
        number = 1
        while (key := form.get(f"{before}Tag.{number}.Key")) is not None:
            found.setdefault(kind, {})[key] = form.get(f"{before}Tag.{number}.Value", "")
            number += 1
    return found


def _tag_keys(action: str, form: Mapping[str, str]) -> tuple[str, ...]:
    """Those that the call sets on what there is, or takes off."""
    if action not in ("CreateTags", "DeleteTags"):
        return ()
    return tuple(value for parameter, value in form.items() if _TAG_KEY.fullmatch(parameter))


def _named(form: Mapping[str, str], region: str) -> Iterator[tuple[str, str, Mapping[str, str]]]:
    """What the call names: kind, id, and its tags."""
    # moto reads the sandbox's images when this is first imported, so that they must be settled by then.
    from moto.ec2.models import ec2_backends

    backend = ec2_backends[ACCOUNT][region]
    tags: Mapping[str, Mapping[str, Any]] = backend.tags
    yield from _placement_groups(form, backend)
    seen = set()
    for parameter, value in form.items():
        if not _NAMES_RESOURCE.fullmatch(parameter) or parameter.startswith("LaunchTemplateData."):
            continue
        resource_id = value
        if parameter.endswith("LaunchTemplateName"):
            resource_id = backend.launch_template_name_to_ids.get(value, "")
        matched = _ID.fullmatch(resource_id)
        if matched is None or resource_id in seen:
            continue
        seen.add(resource_id)
        own = {key: str(text) for key, text in tags.get(resource_id, {}).items()}
        yield _KINDS[matched[1]], resource_id, own


def _placement_groups(form: Mapping[str, str], backend: Any) -> Iterator[tuple[str, str, Mapping[str, str]]]:
    """They are given by name: to delete one, and to launch into one."""
    deleted = form.get("GroupName") if form.get("Action") == "DeletePlacementGroup" else None
    name = deleted or (form.get("Placement.GroupName") if form.get("Action") in _LAUNCHES else None)
    if name:
        groups = [group for group in backend.list_placement_groups([], {}) if group.group_name == name]
        tags = {tag["key"]: str(tag["value"]) for group in groups for tag in group.get_tags()}
        yield "placement-group", name, tags


def _passed_roles(form: Mapping[str, str]) -> Iterator[Need]:
    profile = form.get("IamInstanceProfile.Name") or form.get("IamInstanceProfile.Arn", "").rpartition("/")[2]
    found = iam_backends[ACCOUNT]["aws"].instance_profiles.values()
    for each in found:
        if profile and each.name == profile:
            for role in each.roles:
                yield Need("iam:PassRole", role.arn, {"iam:PassedToService": "ec2.amazonaws.com"})


def ssm_needs(action: str, body: bytes, region: str) -> list[Need]:
    """The rights that Systems Manager asks for: for a command, on the document and each machine."""
    request = _json(body)
    name = f"ssm:{action}"
    if action == "GetParameter":
        path = str(request.get("Name", "")).lstrip("/")
        account = "" if path.startswith("aws/") else ACCOUNT
        return [Need(name, f"arn:aws:ssm:{region}:{account}:parameter/{path}")]
    if action not in {"SendCommand", "StartSession"}:
        return [Need(name, None)]
    from moto.ec2.models import ec2_backends

    machines = request.get("InstanceIds") or [request.get("Target")]
    needs = []
    for instance_id in filter(None, machines):
        tags = ec2_backends[ACCOUNT][region].tags.get(instance_id, {})
        context = {
            f"{service}:{title}/{key}": str(value)
            for key, value in tags.items()
            for service, title in (("aws", "ResourceTag"), ("ssm", "resourceTag"))
        }
        needs.append(Need(name, _arn(region, "instance", str(instance_id)), context))
    document = request.get("DocumentName")
    if document:
        account = "" if str(document).startswith("AWS-") else ACCOUNT
        needs.append(Need(name, f"arn:aws:ssm:{region}:{account}:document/{document}"))
    return needs


def iam_needs(action: str, form: Mapping[str, str]) -> list[Need]:
    """The rights that IAM asks for: the action on the role or the profile."""
    resources = [
        f"arn:aws:iam::{ACCOUNT}:{kind}/{form[parameter]}"
        for kind, parameter in (("role", "RoleName"), ("instance-profile", "InstanceProfileName"))
        if parameter in form
    ]
    if action in {"AddRoleToInstanceProfile", "RemoveRoleFromInstanceProfile"}:
        resources = resources[1:]
    context = {"iam:AWSServiceName": form["AWSServiceName"]} if "AWSServiceName" in form else None
    return [Need(f"iam:{action}", each, context) for each in resources] or [
        Need(f"iam:{action}", None, context)
    ]


def budgets_needs(action: str, body: bytes) -> list[Need]:
    """Budgets has two actions for all its calls."""
    request = _json(body)
    named = request.get("Budget") or request.get("NewBudget") or request
    name = named.get("BudgetName", "*")
    allowed = "budgets:ViewBudget" if action.startswith("Describe") else "budgets:ModifyBudget"
    return [Need(allowed, f"arn:aws:budgets::{ACCOUNT}:budget/{name}")]


def _json(body: bytes) -> dict[str, Any]:
    try:
        value = json.loads(body or b"{}")
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}
