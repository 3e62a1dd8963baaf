"""Instance types are written once, and the answer is moto's."""

from __future__ import annotations

from typing import Any

import pytest
from moto.core.responses import ActionResult
from moto.core.serialize import get_serializer_class
from moto.core.utils import get_service_model
from moto.ec2.models.instance_types import INSTANCE_TYPES

from runctl.sandbox.ec2.type_answers import TypesResult


def body(result: ActionResult) -> str:
    model: Any = get_service_model("ec2")

    class Context:
        service_model = model
        operation_model = model.operation_model("DescribeInstanceTypes")
        serializer_class = get_serializer_class("ec2", "ec2")
        response = None

    answer: Any = result.execute_result(Context())  # type: ignore[arg-type]
    return str(answer[2])


@pytest.mark.parametrize(
    "names", [[], ["m5.large"], ["g5.xlarge", "m5.large", "p4d.24xlarge"], ["m5.large", "t3.micro"]]
)
def test_the_answer_is_motos(names: list[str]) -> None:
    types = [INSTANCE_TYPES[name] for name in names]
    plain, ours = (body(each) for each in (ActionResult({"InstanceTypes": types}), TypesResult(types)))
    assert ours == plain
    assert all(f"<instanceType>{name}</instanceType>" in ours for name in names)
