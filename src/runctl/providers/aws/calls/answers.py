"""Whether it was AWS that answered: a proxy, a captive portal or a broken stand-in may speak in its place."""

from __future__ import annotations

import os
import re
from typing import Any
from urllib.parse import urlsplit

from runctl.core.errors import Unreachable

_SHOWN = 120
"""Characters of a foreign answer that are quoted."""
_MARKUP = re.compile(r"<(script|style)\b.*?</\1\s*>|<[^>]*>", re.DOTALL | re.IGNORECASE)
_LOGIN = re.compile(r"//[^/@]*@")


def proxy_for(url: str) -> str | None:
    """The proxy that the environment names for this address, without its password; ``None``: straight there."""
    from urllib.request import getproxies, proxy_bypass

    address = urlsplit(url)
    if not address.hostname or proxy_bypass(address.hostname):
        return None
    proxy = getproxies().get(address.scheme)
    return _LOGIN.sub("//", proxy) if proxy else None


def not_from_aws(
    endpoint: str, status: int, content_type: str, body: bytes, *, proxy: str | None = None
) -> Unreachable:
    """The error for an answer that AWS did not write."""
    text = " ".join(_MARKUP.sub(" ", body[:20_000].decode(errors="replace")).split())
    quoted = f": {text[:_SHOWN]}{'…' if len(text) > _SHOWN else ''}" if text else ""
    kind = "a web page" if "html" in content_type or b"<html" in body[:500].lower() else "something else"
    through = f", asked through the proxy {proxy}," if proxy else ""
    return Unreachable(
        f"{endpoint}{through} answered with {kind}, which is not an AWS answer (HTTP {status}){quoted}",
        hint=f"does the proxy {proxy} allow requests to AWS? NO_PROXY={urlsplit(endpoint).hostname} bypasses it"
        if proxy
        else "a network that wants you to sign in first (open a web page), or a proxy in between, does that"
        if "AWS_ENDPOINT_URL" not in os.environ
        else "is AWS_ENDPOINT_URL the address of AWS or of a sandbox? `runctl sandbox env` prints the sandbox's",
        code="not-aws",
    )


def watch(client: Any) -> None:
    """Answers that are not AWS's raise `Unreachable` (code ``not-aws``) instead of an error of a parser's."""
    model = client.meta.service_model
    service, protocol = model.service_id.hyphenize(), model.resolved_protocol
    # What is neither is not text.
    begins = b"{" if protocol.endswith("json") else b"" if protocol.endswith("cbor") else b"<"

    def check(
        *,
        response_dict: Any,
        operation_model: Any,
        **_: Any,
    ) -> None:
        if not operation_model.has_streaming_output and _is_foreign(response_dict, begins):
            headers, endpoint = response_dict["headers"], client.meta.endpoint_url
            raise not_from_aws(
                endpoint,
                response_dict["status_code"],
                str(headers.get("content-type", "")),
                response_dict["body"],
                proxy=proxy_for(endpoint),
            )

    def check_content(*, parsed: Any, model: Any, http_response: Any, **_: Any) -> None:
        if http_response.status_code < 300 and _is_empty(parsed, model):
            endpoint = client.meta.endpoint_url
            raise not_from_aws(
                endpoint,
                http_response.status_code,
                str(http_response.headers.get("content-type", "")),
                http_response.content,
                proxy=proxy_for(endpoint),
            )

    client.meta.events.register_first(f"before-parse.{service}", check)
    client.meta.events.register_first(f"after-call.{service}", check_content)


def _is_foreign(answer: Any, begins: bytes) -> bool:
    """Whether the body is not in the language that its service speaks, in which all answers begin so."""
    status, body = answer["status_code"], answer["body"]
    # AWS's own load balancers speak of 5xx in HTML; botocore tries those again.
    if status >= 500 or not body or not isinstance(body, bytes):
        return False
    # What the answer calls itself says nothing: stand-ins for AWS call theirs text/html.
    start = body[:500].lstrip().lower()
    if start.startswith((b"<!doctype html", b"<html")):
        return True
    return not start.startswith(begins)


def _is_empty(parsed: Any, model: Any) -> bool:
    """Whether nothing is in it of what the operation always says."""
    shape = model.output_shape
    if shape is None or not shape.members or model.service_model.resolved_protocol.startswith("rest-"):
        return False
    reads = model.name.startswith(("Describe", "Get", "List"))
    return reads and not any(member in parsed for member in shape.members)
