"""Launch templates as EC2 answers for them, where moto does not: one that is gone, and listings in pages.

Sources: the DeleteLaunchTemplate and DescribeLaunchTemplates pages of the EC2 API reference, and its "Error codes".
"""

from __future__ import annotations

from typing import Any

from moto.core.responses import ActionResult
from moto.ec2.exceptions import EC2ClientError, MissingParameter
from moto.ec2.models.launch_templates import LaunchTemplate, LaunchTemplateBackend
from moto.ec2.responses.launch_templates import LaunchTemplates

from runctl.sandbox.api.pages import page

PAGE = 200
"""The most that one answer lists, and the size of a page where none is asked for."""


def install() -> None:
    """moto's DeleteLaunchTemplate and DescribeLaunchTemplates are these from now on."""
    for owner, name, ours in (
        (LaunchTemplateBackend, "delete_launch_template", _delete),
        (LaunchTemplates, "describe_launch_templates", _describe),
    ):
        setattr(owner, name, ours)


def _delete(self: Any, name: str | None, tid: str | None) -> LaunchTemplate:
    if not name and not tid:
        raise MissingParameter("LaunchTemplateId")
    found: LaunchTemplate = self.get_launch_template_by_name(name) if name else self.get_launch_template(tid)
    # Several may delete it at once.
    self.launch_template_name_to_ids.pop(found.name, None)
    self.launch_templates.pop(found.id, None)
    return found


def _describe(self: Any) -> ActionResult:
    size, token = self._get_int_param("MaxResults"), self._get_param("NextToken")
    names, identifiers = self._get_param("LaunchTemplateNames", []), self._get_param("LaunchTemplateIds", [])
    filters = self._filters_from_querystring()
    self.error_on_dryrun()
    backend = self.ec2_backend
    for identifier in identifiers:
        backend.get_launch_template(identifier)
    found = backend.describe_launch_templates(names, identifiers, filters)
    try:
        rows, after = page(found, min(size or PAGE, PAGE), token)
    except ValueError:
        raise EC2ClientError("InvalidNextToken", f"The token '{token}' is invalid.") from None
    return ActionResult({"LaunchTemplates": [_shown(self, row) for row in rows], "NextToken": after})


def _shown(self: Any, template: LaunchTemplate) -> dict[str, Any]:
    return {
        "CreateTime": template.create_time,
        "CreatedBy": f"arn:{self.partition}:iam::{self.current_account}:root",
        "DefaultVersionNumber": template.default_version_number,
        "LatestVersionNumber": template.latest_version_number,
        "LaunchTemplateId": template.id,
        "LaunchTemplateName": template.name,
        "Tags": template.tags,
    }
