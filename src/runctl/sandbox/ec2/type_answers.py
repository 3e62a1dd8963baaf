"""DescribeInstanceTypes: each type is written as XML once, for all regions.

moto writes 800 types in seconds, each time. Whoever asks what every region rents asks three dozen times, and would wait
longer than a client does for an answer.
"""

from __future__ import annotations

import threading
from typing import Any

from moto.core.responses import ActionResult
from moto.ec2.responses.instances import InstanceResponse

_SET, _END = "<instanceTypeSet>", "</instanceTypeSet>"
_WRITTEN: dict[str, str] = {}
_ONE_AT_A_TIME = threading.Lock()
"""All regions are asked at once: each would write all of them."""


class TypesResult(ActionResult):
    """The types of an answer; what EC2 says of one is the same in every region."""

    def __init__(self, types: list[dict[str, Any]]) -> None:
        super().__init__({"InstanceTypes": types})
        self._types = types

    def execute_result(self, context: Any) -> Any:
        """moto's answer for each type, joined."""
        if not self._types:
            return super().execute_result(context)
        with _ONE_AT_A_TIME:
            for each in self._types:
                if each["InstanceType"] not in _WRITTEN:
                    _, _, alone = ActionResult({"InstanceTypes": [each]}).execute_result(context)
                    _WRITTEN[each["InstanceType"]] = str(alone).partition(_SET)[2].rpartition(_END)[0]
        status, headers, body = ActionResult({"InstanceTypes": self._types[:1]}).execute_result(context)
        before, _, rest = str(body).partition(_SET)
        items = "".join(_WRITTEN[each["InstanceType"]] for each in self._types)
        return status, headers, f"{before}{_SET}{items}{_END}{rest.rpartition(_END)[2]}"


def _describe_instance_types(self: Any) -> ActionResult:
    types = self.ec2_backend.describe_instance_types(
        self._get_param("InstanceTypes", []), self._filters_from_querystring()
    )
    return TypesResult(types)


def install() -> None:
    """From now on moto answers so."""
    setattr(InstanceResponse, "describe_instance_types", _describe_instance_types)  # noqa: B010 (a method)
