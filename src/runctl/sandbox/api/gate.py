"""Middleware for every request: credentials, requested faults, and calls repeated with the same token."""

from __future__ import annotations

import functools
import hashlib
import json
import threading
from collections.abc import Iterable
from dataclasses import dataclass, replace
from io import BytesIO
from typing import Any
from urllib.parse import parse_qs, parse_qsl
from xml.sax.saxutils import escape

import botocore.session

from runctl.sandbox.api import rights
from runctl.sandbox.api.http_server import Start, Wsgi
from runctl.sandbox.api.needs import budgets_needs, ec2_needs, iam_needs, ssm_needs
from runctl.sandbox.api.rights import ExpiredKey, Need, UnknownKey
from runctl.sandbox.s3 import request as s3_request
from runctl.sandbox.s3.request import REQUEST_KEY
from runctl.sandbox.world import ACCOUNT, World, current

IDEMPOTENT = {"CopyVolumes", "CreateFleet", "CreateLaunchTemplate", "CreateVolume", "RunInstances"}
EXPIRED_TOKEN = "expired"  # noqa: S105 - the word that tests use for one
UNKNOWN_KEY = (
    "The access key or security token included in the request is not valid in this sandbox: each start has keys of"
    ' its own, which eval "$(runctl sandbox env)" sets'
)
LAUNCHES = {
    ("ec2", "RunInstances"),
    ("ec2", "CreateFleet"),
    ("ec2", "RequestSpotInstances"),
    ("autoscaling", "CreateAutoScalingGroup"),
}
REQUEST = "00000000-0000-4000-8000-000000000000"

_here = threading.local()


def parameter(name: str) -> str | None:
    """A form parameter of the EC2 request that this thread serves; moto does not pass all of them on."""
    form: dict[str, str] = getattr(_here, "form", {})
    return form.get(name)


@dataclass(frozen=True)
class _RefusalCodes:
    """How the services of one family refuse: their error codes, and the HTTP statuses where they differ."""

    expired: str
    unknown: str
    missing: str
    denied: str
    throttled: str
    unknown_status: int = 403
    throttled_status: int = 400


REFUSALS = {
    "ec2": _RefusalCodes(
        "RequestExpired",
        "AuthFailure",
        "AuthFailure",
        "UnauthorizedOperation",
        "RequestLimitExceeded",
        401,
        503,
    ),
    "s3": _RefusalCodes(
        "ExpiredToken", "InvalidAccessKeyId", "AccessDenied", "AccessDenied", "SlowDown", 403, 503
    ),
    "query": _RefusalCodes(
        "ExpiredToken", "InvalidClientTokenId", "MissingAuthenticationToken", "AccessDenied", "Throttling"
    ),
    "json": _RefusalCodes(
        "ExpiredTokenException",
        "UnrecognizedClientException",
        "MissingAuthenticationTokenException",
        "AccessDeniedException",
        "ThrottlingException",
    ),
}
"""From the "Common errors" pages of EC2, S3, STS and Systems Manager."""


@functools.cache
def _regions() -> frozenset[str]:
    session = botocore.session.get_session()
    partitions = session.get_available_partitions()
    return frozenset(
        name for partition in partitions for name in session.get_available_regions("ec2", partition)
    )


@dataclass(frozen=True)
class _Call:
    service: str
    action: str
    form: dict[str, str]
    access_key: str
    token: str
    method: str = "POST"
    region: str = ""
    needs: tuple[Need, ...] = ()
    """What the caller must be allowed to do."""

    @property
    def family(self) -> str:
        """Which services use this form of errors."""
        if self.service in {"ec2", "s3"}:
            return self.service
        return "query" if self.form else "json"


class Gate:
    """WSGI middleware around moto's application."""

    def __init__(self, application: Wsgi, world: World) -> None:
        self._application = application
        self._world = world
        self._answers: dict[tuple[str, str], tuple[str, str, list[tuple[str, str]], bytes]] = {}
        self._locks: dict[str, threading.Lock] = {}
        self._guard = threading.Lock()

    def __call__(self, environ: dict[str, Any], start: Start) -> Iterable[bytes]:
        """One request."""
        call = _read(environ)
        refusal = self._refusal(call, environ)
        if refusal is not None:
            return _refuse(call, start, *refusal)
        _here.form = call.form
        token = call.form.get("ClientToken", "")
        if call.action in IDEMPOTENT and token:
            return self._once(call, token, environ, start)
        return self._application(environ, start)

    def _refusal(self, call: _Call, environ: dict[str, Any]) -> tuple[int, str, str] | None:
        faults = self._world.faults
        codes = REFUSALS[call.family]
        if call.token == EXPIRED_TOKEN:
            return 400, codes.expired, "The security token included in the request is expired"
        if not call.access_key:
            return codes.unknown_status, codes.missing, "The request has no credentials of this sandbox"
        if f"{call.service}:{call.action}" in faults.denied:
            message = f"You are not authorized to perform this operation: {call.service}:{call.action}."
            return 403, codes.denied, message
        beyond = _beyond_rights(call, codes) or self._elsewhere(call, environ)
        if beyond is not None:
            return beyond
        with self._world.lock:
            left = faults.throttled.get(call.action, 0)
            if left > 0:
                faults.throttled[call.action] = left - 1
                return codes.throttled_status, codes.throttled, "Request limit exceeded."
        return None

    def _elsewhere(self, call: _Call, environ: dict[str, Any]) -> tuple[int, str, str] | None:
        """Machines and their images are in one region only; the rest of the API is in all."""
        home = self._world.region
        if call.region in {"", home}:
            return None
        if call.region not in _regions() and "global" not in call.region:
            message = f"AWS has no region {call.region}; this sandbox is in {home}: add --region {home}"
            return 400, "SandboxRegion", message
        asks_for_image = call.action.startswith("GetParameter") and b"/aws/service/" in _body(environ)
        if (call.service, call.action) not in LAUNCHES and not asks_for_image:
            return None
        message = (
            f"this sandbox is in {home} and has no machines in {call.region}: add --region {home}, or start another by"
            f" runctl sandbox stop and runctl sandbox start --region {call.region}"
        )
        return 400, "SandboxRegion", message

    def _once(self, call: _Call, token: str, environ: dict[str, Any], start: Start) -> Iterable[bytes]:
        """The same token and parameters get the first answer again; other parameters are refused, as on AWS."""
        wanted = hashlib.sha256(json.dumps(sorted(call.form.items())).encode()).hexdigest()
        key = (call.action, token)
        with self._guard:
            lock = self._locks.setdefault(f"{call.action}/{token}", threading.Lock())
        with lock:
            if key in self._answers:
                digest, status, headers, body = self._answers[key]
                if digest != wanted:
                    message = (
                        "The request uses the same client token as a previous, but non-identical request."
                    )
                    return _refuse(call, start, 400, "IdempotentParameterMismatch", message)
                start(status, headers)
                return [body]
            kept: list[Any] = []
            body = b"".join(
                self._application(environ, lambda *answered, **more: kept.append((answered, more)))
            )
            (answered, _more) = kept[-1]
            if str(answered[0]).startswith("200"):
                self._answers[key] = (wanted, answered[0], answered[1], body)
            start(*answered)
            return [body]


def _beyond_rights(call: _Call, codes: _RefusalCodes) -> tuple[int, str, str] | None:
    """The keys must be valid; for temporary ones, their role must be allowed to do it."""
    try:
        caller = rights.caller(call.access_key, call.token)
    except ExpiredKey:
        return 400, codes.expired, "The security token included in the request is expired"
    except UnknownKey:
        return codes.unknown_status, codes.unknown, UNKNOWN_KEY
    message = caller and caller.refusal(call.needs)
    if not message:
        return None
    return 403 if call.family in {"ec2", "s3"} else 400, codes.denied, message


def _read(environ: dict[str, Any]) -> _Call:
    query = {name: values[0] for name, values in parse_qs(environ.get("QUERY_STRING", "")).items()}
    authorization = environ.get("HTTP_AUTHORIZATION", "")
    credential = authorization.partition("Credential=")[2].partition(",")[0]
    # A presigned address carries in its query what a signed request has in its headers; an older kind, only S3's.
    scope = (credential or query.get("X-Amz-Credential", "")).split("/")
    if "AWSAccessKeyId" in query:
        scope = [query["AWSAccessKeyId"], "", "", "s3"]
    service = scope[3] if len(scope) > 3 else ""
    token = environ.get("HTTP_X_AMZ_SECURITY_TOKEN") or query.get("X-Amz-Security-Token")
    token = token or query.get("x-amz-security-token", "")
    method = environ.get("REQUEST_METHOD", "")
    call = _Call(
        service,
        environ.get("HTTP_X_AMZ_TARGET", "").rpartition(".")[2],
        {},
        scope[0],
        token,
        method,
        scope[2] if len(scope) > 3 else "",
    )
    if service == "s3":
        return _read_s3(environ, call)
    if environ.get("CONTENT_TYPE", "").startswith("application/x-www-form-urlencoded"):
        form = dict(parse_qsl(_body(environ).decode("utf-8", "replace"), keep_blank_values=True))
        call = replace(call, form=form, action=form.get("Action", call.action))
    if not call.action or (service, call.action) == ("sts", "GetCallerIdentity"):
        return call
    resources: list[str | None] = [None]
    if service == "ecr" and call.access_key.startswith(rights.TEMPORARY):
        region = scope[2]
        resources = [*_repositories(_body(environ), region)]
    allowed = _SERVICES.get(service, service)
    needs = [Need(f"{allowed}:{call.action}", resource) for resource in resources]
    if call.access_key.startswith(rights.TEMPORARY):
        if service == "ec2":
            needs = ec2_needs(call.action, call.form, scope[2])
        elif service == "ssm":
            needs = ssm_needs(call.action, _body(environ), scope[2])
        elif service == "iam":
            needs = iam_needs(call.action, call.form)
        elif service == "budgets":
            needs = budgets_needs(call.action, _body(environ))
    if service == "autoscaling":
        needs = [_need_of_group(call)]
    return replace(call, needs=tuple(needs))


_SERVICES = {"monitoring": "cloudwatch"}
"""Services that sign by another name than that of their actions."""


def _need_of_group(call: _Call) -> Need:
    """With the group's tags, by which policies tell one group from another; reading is allowed for all or none."""
    action = f"autoscaling:{call.action}"
    group = current().groups.get(call.form.get("AutoScalingGroupName", ""))
    if group is None or call.action.startswith("Describe"):
        return Need(action, None)
    return Need(action, group.arn, group.tag_context)


def _read_s3(environ: dict[str, Any], call: _Call) -> _Call:
    path = environ.get("PATH_INFO", "").encode("latin-1").decode("utf-8", "replace")
    request = s3_request.read(call.method, path, environ.get("QUERY_STRING", ""))
    environ[REQUEST_KEY] = request
    headers = {"x-amz-copy-source": environ.get("HTTP_X_AMZ_COPY_SOURCE", "")}
    told_by_body = not request.key and ("delete" in request.query or call.method == "PUT")
    found = s3_request.needs(request, headers, _body(environ) if told_by_body else b"")
    needs = [Need(*need) for need in found]
    by_role = call.access_key.startswith(rights.TEMPORARY)
    if by_role and request.reads_object and not rights.has_object(request.bucket, request.key):
        # Whoever may not list is not told that nothing exists, either.
        needs.append(Need("s3:ListBucket", f"arn:aws:s3:::{request.bucket}"))
    action = needs[0].action.partition(":")[2] if needs else ""
    return replace(call, action=action, needs=tuple(needs))


def _repositories(body: bytes, region: str) -> list[str]:
    try:
        request = json.loads(body or b"{}")
    except ValueError:
        request = {}
    if "resourceArn" in request:
        return [str(request["resourceArn"])]
    names = (
        [request["repositoryName"]] if "repositoryName" in request else request.get("repositoryNames") or []
    )
    return [f"arn:aws:ecr:{region}:{ACCOUNT}:repository/{name}" for name in names] or ["*"]


def _body(environ: dict[str, Any]) -> bytes:
    """The request's body; it can be read again."""
    body: bytes = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
    environ["wsgi.input"] = BytesIO(body)
    return body


def _refuse(call: _Call, start: Start, status: int, code: str, message: str) -> Iterable[bytes]:
    error = f"<Code>{code}</Code><Message>{escape(message)}</Message>"
    kind = "text/xml"
    if call.family == "ec2":
        text = f"<Response><Errors><Error>{error}</Error></Errors><RequestID>{REQUEST}</RequestID></Response>"
    elif call.family == "query":
        error = f"<Error><Type>Sender</Type>{error}</Error><RequestId>{REQUEST}</RequestId>"
        text = f"<ErrorResponse>{error}</ErrorResponse>"
    elif call.family == "s3":
        text, kind = f"<Error>{error}</Error>", "application/xml"
    else:
        text, kind = json.dumps({"__type": code, "message": message}), "application/x-amz-json-1.1"
    body = b"" if call.method == "HEAD" else text.encode()
    start(f"{status} Refused", [("Content-Type", kind), ("Content-Length", str(len(body)))])
    return [body]
