"""The quick parsers of XML answer as botocore's own do, for every shape."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from botocore.model import ServiceModel
from botocore.parsers import ResponseParserFactory
from hypothesis import given
from hypothesis import strategies as st

from runctl.providers.aws.calls.botocore_loader import loader
from runctl.providers.aws.calls.xml_answers import QuickParsers, readers_of

_NAMESPACE = "http://ec2.amazonaws.com/doc/2016-11-15/"
_TYPE = "{http://www.w3.org/2001/XMLSchema-instance}type"
"""The one attribute that answers have: what S3 says of who was granted something."""
_VALUES = {
    "string": ("digits", "", None, "größer & <kleiner>"),
    "integer": ("0", "-3", "4096"),
    "long": ("1099511627776",),
    "float": ("0.25",),
    "double": ("1e-3",),
    "boolean": ("true", "false", ""),
    "timestamp": ("2026-05-01T12:00:00.000Z", "2026-05-01T12:00:00Z"),
    "blob": ("ZGF0YQ==",),
}


def _model(service: str) -> ServiceModel:
    return ServiceModel(loader(None).load_service_model(service, "service-2"), service)


MODELS = {service: _model(service) for service in ("ec2", "autoscaling", "iam", "sts", "s3")}
OPERATIONS = [
    (service, name)
    for service, model in MODELS.items()
    for name in model.operation_names
    if (service != "ec2" or name.startswith(("Describe", "Create", "Run")))
    # botocore answers this old one with elements, which equal nothing.
    and name != "GetBucketNotification"
    and model.operation_model(name).output_shape is not None
    and not model.operation_model(name).has_streaming_output
    and not model.operation_model(name).has_event_stream_output
]


def both(service: str, operation: str, body: bytes) -> tuple[Any, Any]:
    """botocore's answer, and the quick one."""
    model = MODELS[service]
    response = {"status_code": 200, "headers": {}, "body": body, "context": {"operation_name": operation}}
    shape: Any = model.operation_model(operation).output_shape
    factories = (ResponseParserFactory(), QuickParsers())
    plain, quick = (
        factory.create_parser(model.resolved_protocol).parse(response, shape) for factory in factories
    )
    return plain, quick


def element(name: str, shape: Any, chance: random.Random, depth: int) -> list[ET.Element]:
    """What stands in an answer for a value of this shape; a flattened list is several elements."""
    kind = shape.type_name
    node = ET.Element(name)
    if kind == "structure":
        node.extend(members(shape, chance, depth + 1))
        if any(member.serialization.get("xmlAttribute") for member in shape.members.values()):
            node.set(_TYPE, "CanonicalUser")
        return [node]
    many = range(chance.choice((0, 1, 2, 3)) if depth < 5 else 0)
    if kind == "list":
        of_item = shape.member
        called = of_item.serialization.get("name")
        flattened = shape.serialization.get("flattened")
        items = [
            each
            for _ in many
            for each in element(
                (called or name) if flattened else called or "item", of_item, chance, depth + 1
            )
        ]
        if flattened:
            return items
        node.extend(items)
        return [node]
    if kind == "map":
        for _ in many:
            entry = ET.SubElement(node, "entry")
            entry.extend(element(shape.key.serialization.get("name") or "key", shape.key, chance, depth))
            entry.extend(
                element(shape.value.serialization.get("name") or "value", shape.value, chance, depth)
            )
        return [node]
    node.text = chance.choice(_VALUES[kind])
    return [node]


def members(shape: Any, chance: random.Random, depth: int) -> Iterator[ET.Element]:
    """Some of a structure's, in any order, with one that no model knows."""
    names = [name for name in shape.members if chance.random() < (0.9 if depth < 3 else 0.4)]
    if shape.is_tagged_union:
        names = [chance.choice([*shape.members])]
    chance.shuffle(names)
    for name in names:
        member = shape.members[name]
        if member.serialization.get("xmlAttribute"):
            continue
        yield from element(member.serialization.get("name") or name, member, chance, depth)
    if not shape.is_tagged_union and chance.random() < 0.1:
        yield ET.Element("unknownToThisVersion")


def answer_to(service: str, operation: str, seed: int, *, namespace: str = "") -> bytes:
    """As the service would write it."""
    shape: Any = MODELS[service].operation_model(operation).output_shape
    root = ET.Element(f"{operation}Response")
    inside = root
    if "resultWrapper" in shape.serialization:
        inside = ET.SubElement(root, shape.serialization["resultWrapper"])
    inside.extend(members(shape, random.Random(seed), 0))
    ET.SubElement(root, "requestId").text = "1"
    if namespace:
        root.set("xmlns", namespace)
    return ET.tostring(root)


@pytest.mark.parametrize("service", MODELS)
def test_every_shape_is_read_as_botocore_reads_it(service: str) -> None:
    compared = 0
    for number, (of, operation) in enumerate(OPERATIONS):
        if of == service:
            plain, quick = both(service, operation, answer_to(service, operation, number))
            assert quick == plain, operation
            compared += len(plain) > 1
    assert compared > 5


LISTS = [
    "DescribeInstances",
    "DescribeVolumes",
    "DescribeSnapshots",
    "RunInstances",
    "DescribeSecurityGroups",
]


@given(st.sampled_from(LISTS), st.integers(0, 10_000), st.sampled_from(["", _NAMESPACE]))
def test_answers_of_a_namespace_are_read_the_same(operation: str, seed: int, namespace: str) -> None:
    plain, quick = both("ec2", operation, answer_to("ec2", operation, seed, namespace=namespace))
    assert quick == plain
    assert plain["ResponseMetadata"]["RequestId"] == "1"


def test_an_element_that_comes_twice_is_left_to_botocore() -> None:
    body = b"<R><volumeSet><item><volumeId>vol-1</volumeId><tagSet/><tagSet><item><key>a</key></item></tagSet></item>"
    body += b"</volumeSet></R>"
    plain, quick = both("ec2", "DescribeVolumes", body)
    assert quick == plain
    assert quick["Volumes"][0]["VolumeId"] == "vol-1"


def test_most_shapes_of_ec2_have_a_plan() -> None:
    instance = MODELS["ec2"].shape_for("Instance")
    assert readers_of(instance)["instanceId"] is not None
    assert readers_of(MODELS["s3"].shape_for("Grantee")) == {}
