"""A way into the account's own registry of images, for a machine whose role may pull them (GetAuthorizationToken)."""

from __future__ import annotations

import base64
from dataclasses import field

from runctl._dataclasses import dataclass
from runctl.agent.cloud.ec2 import Ec2
from runctl.agent.encoding import loads
from runctl.agent.errors import AgentError


@dataclass(frozen=True)
class RegistryLogin:
    """It ends by itself, after twelve hours."""

    host: str
    username: str
    password: str = field(repr=False)


class Ecr(Ec2):
    """Amazon ECR, which speaks JSON. Raises `AgentError` as the methods of `Ec2` do."""

    service = "ecr"
    host_prefix = "api.ecr"
    title = "Amazon ECR"
    content_type = "application/x-amz-json-1.1"
    target = "AmazonEC2ContainerRegistry_V20150921."

    def login(self) -> RegistryLogin:
        """A new token for the registry of the machine's account and region."""
        text = self._asked("GetAuthorizationToken", b"{}")
        try:
            (found, *_) = loads(text)["authorizationData"]
            username, _, password = base64.b64decode(found["authorizationToken"]).decode().partition(":")
            host = found["proxyEndpoint"].partition("://")[2]
        except (ValueError, KeyError, TypeError) as error:
            raise AgentError("ec2-refused", f"the answer of {self.title} cannot be read") from error
        return RegistryLogin(host, username, password)

    def _refusal(self, status: int, text: str) -> tuple[str, str]:
        try:
            told = loads(text)
            return str(told["__type"]).rpartition("#")[2], str(told.get("message", ""))
        except (ValueError, KeyError, TypeError, AttributeError):
            return str(status), ""
