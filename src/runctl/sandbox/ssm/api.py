"""Systems Manager's requests that moto has not, or not like this; `install` puts them in moto's place."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from moto.core.responses import ActionResult
from moto.ssm import urls
from moto.ssm.models import ssm_backends
from moto.ssm.responses import SimpleSystemManagerResponse

from runctl.sandbox.ssm import agents as ssm_agents
from runctl.sandbox.ssm import backend as ssm
from runctl.sandbox.ssm import request as ssm_request
from runctl.sandbox.world import current


class SandboxSsmResponse(SimpleSystemManagerResponse):
    """The requests that moto has not, or not like this."""

    @property
    def ssm_backend(self) -> ssm.SandboxSsm:
        """The region's."""
        return ssm.backend(self.region)

    def send_command(self) -> ActionResult:
        """SendCommand."""
        request = ssm_request.parse(self._get_param, self.region)
        return ActionResult({"Command": self.ssm_backend.run_command(request).response_object()})

    def list_commands(self) -> ActionResult:
        """ListCommands."""
        found = self.ssm_backend.sent(self._get_param("CommandId"), self._get_param("InstanceId"))
        rows = [command.response_object() for command in found]
        rows = ssm_request.filter_commands(rows, self._get_param("Filters", []), "RequestedDateTime")
        return self._page("Commands", rows, 50)

    def list_command_invocations(self) -> ActionResult:
        """ListCommandInvocations."""
        found = self.ssm_backend.sent(self._get_param("CommandId"), self._get_param("InstanceId"))
        wanted, details = self._get_param("InstanceId"), bool(self._get_param("Details"))
        rows = [
            command.listed_object(instance_id, details=details)
            for command in found
            if command.is_visible()
            for instance_id in command.instance_ids
            if wanted in {None, instance_id}
        ]
        rows = ssm_request.filter_commands(rows, self._get_param("Filters", []), "RequestedDateTime")
        return self._page("CommandInvocations", rows, 50)

    def cancel_command(self) -> ActionResult:
        """CancelCommand."""
        wanted = self._get_param("InstanceIds", [])
        for command in self.ssm_backend.sent(self._get_param("CommandId")):
            for instance_id, invocation in command.invocations.items():
                if not wanted or instance_id in wanted:
                    invocation.cancel()
        return ActionResult({})

    def describe_instance_information(self) -> ActionResult:
        """DescribeInstanceInformation."""
        rows = ssm_request.filter_instances(
            ssm_agents.instance_information(self.region),
            self._get_param("Filters", []),
            self._get_param("InstanceInformationFilterList", []),
        )
        return self._page("InstanceInformationList", rows, 50)

    def _page(self, name: str, rows: Sequence[Any], most: int) -> ActionResult:
        page, token = ssm_request.page(
            rows, self._get_param("NextToken"), self._get_param("MaxResults"), most
        )
        return ActionResult({name: page, **({"NextToken": token} if token else {})})


def install() -> None:
    """From now on moto makes these; machines of this process's world register when they have booted."""
    urls.url_paths = {"{0}/$": SandboxSsmResponse.dispatch}
    ssm_backends.backend = ssm.SandboxSsm
    ssm_backends.clear()
    ssm_agents.install(current())
