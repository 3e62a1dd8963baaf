"""botocore's parsers of XML, with a structure read by what the answer has of it instead of by all that it could have.

botocore looks for each of the 60 members of an instance in each instance of a list, and works out anew each time what
the member is called. Here that is worked out once for each shape, and the answer's own elements are gone through. What
is rare is left to botocore: unions, members that are attributes, elements that come several times without a list.
`tests.providers.aws.calls.test_xml_answers` compares both on answers of every shape.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from botocore.parsers import (
    PROTOCOL_PARSERS,
    BaseXMLResponseParser,
    ResponseParser,
    ResponseParserFactory,
)

Read = Callable[[Any, Any], Any]
"""By the parser, from an element."""
Readers = dict[str, "tuple[str, Read] | None"]
"""A structure's members, each with how it is read, by the element's name."""
_READERS = "runctl_readers"
"""What the readers of a shape are kept as, on it: clients have shapes of their own, which go when they go."""


class QuickParsers(ResponseParserFactory):
    """For the component ``response_parser_factory`` of a botocore session."""

    def create_parser(self, protocol_name: str) -> ResponseParser:
        """botocore's for this protocol, quicker where it reads XML."""
        own = _QUICK.get(protocol_name)
        if own is None:
            return super().create_parser(protocol_name)
        defaults: Any = self
        parser: ResponseParser = own(**defaults._defaults)
        return parser


class _Quick(BaseXMLResponseParser):
    def _handle_structure(self: Any, shape: Any, node: Any) -> Any:
        readers: Readers | None = getattr(shape, _READERS, None)
        if readers is None:
            readers = readers_of(shape)
            setattr(shape, _READERS, readers)
        if not readers or isinstance(node, list):
            return _plain_structure(self, shape, node)
        parsed: dict[str, Any] = {}
        for child in node:
            tag = child.tag
            try:
                member = readers[tag]
            except KeyError:
                member = readers[tag] = readers.get(self._node_tag(child))
            if member is None:
                continue
            name, read = member
            if name in parsed:
                return _plain_structure(self, shape, node)
            parsed[name] = read(self, child)
        return parsed


_plain_structure: Any = vars(BaseXMLResponseParser)["_handle_structure"]


def readers_of(shape: Any) -> Readers:
    """How a structure of this shape is read; empty where botocore has to. Pure."""
    if shape.metadata.get("exception") or shape.is_tagged_union:
        return {}
    readers: Readers = {}
    for name, member in shape.members.items():
        settings = member.serialization
        if settings.get("location") in BaseXMLResponseParser.KNOWN_LOCATIONS or settings.get("eventheader"):
            continue
        element = _element_of(name, member)
        if settings.get("xmlAttribute") or element in readers:
            return {}
        readers[element] = (name, _reader(member))
    return readers


def _element_of(name: str, member: Any) -> str:
    own = member.serialization.get("name") or name
    if member.type_name == "list" and member.serialization.get("flattened"):
        return member.member.serialization.get("name") or own
    return own


def _reader(shape: Any) -> Read:
    if shape.type_name in {"string", "character"}:
        return _text
    if shape.type_name == "structure":
        return lambda parser, node: parser._handle_structure(shape, node)
    if shape.type_name == "list" and not shape.serialization.get("flattened"):
        of_item = _reader(shape.member)
        return lambda parser, node: [of_item(parser, item) for item in node]
    return lambda parser, node: parser._parse_shape(shape, node)


def _text(parser: Any, node: Any) -> str:
    del parser
    return node.text or ""


_PROTOCOLS: Any = PROTOCOL_PARSERS
_QUICK: dict[str, Any] = {
    protocol: type(f"Quick{parser.__name__}", (_Quick, parser), {})
    for protocol, parser in _PROTOCOLS.items()
    if issubclass(parser, BaseXMLResponseParser)
}
"""By botocore's name of the protocol: ``ec2``, ``query``, ``rest-xml``."""
