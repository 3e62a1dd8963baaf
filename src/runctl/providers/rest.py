"""JSON over HTTP for providers that have no client library of their own: urllib3, with answers that are read again.

What only reads is asked again where the provider fails for a moment, and so is what does no more by a second request
than by the first: an end, a deletion. What makes something is sent once: whoever sent it looks what has become of it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, TypeVar
from urllib.parse import urlencode, urlsplit

from runctl._dataclasses import dataclass
from runctl.core.config import SANDBOX_VARIABLE
from runctl.core.errors import (
    ASKED_TOO_OFTEN,
    Conflict,
    OutcomeUnknown,
    ProviderError,
    RunctlError,
    Unreachable,
    UsageError,
)

if TYPE_CHECKING:
    import urllib3
    from urllib3.util import Retry

Shape = TypeVar("Shape")

CONNECT_SECONDS = 10.0
READ_SECONDS = 20.0
WRITE_SECONDS = 60.0
READ_TRIES = 4
"""A provider whose lists fail now and then has answered by the fourth try."""
_PASSING = (429, 500, 502, 503, 504)
_LONGEST_PAUSE = 20.0


@dataclass(frozen=True)
class Answer:
    """What came back, whatever it says."""

    status: int
    body: bytes = field(repr=False)
    request_id: str | None = None
    """The provider's own, for its support."""

    @property
    def is_good(self) -> bool:
        """Whether it was done."""
        return 200 <= self.status < 300

    def text(self) -> str:
        """The body for a person, at most 300 characters; an HTML page of a proxy is not shown."""
        said = self.body.decode(errors="replace").strip()
        return "" if said.startswith("<") else said[:300]

    def json(self) -> Any:
        """The body as JSON; ``None`` where it is none."""
        try:
            return json.loads(self.body)
        except ValueError:
            return None


class RestClient:
    """One provider's API at one address."""

    def __init__(self, base_url: str, headers: Mapping[str, str], provider: str) -> None:
        """``headers`` go with every call; they are never shown."""
        self.base_url = base_url.rstrip("/")
        self._headers = headers
        self._provider = provider

    def read(self, path: str, query: Mapping[str, str] | None = None) -> Answer:
        """The answer of a GET; asked again while the provider fails. Raises `Unreachable`."""
        from urllib3.exceptions import HTTPError

        try:
            return self._retried("GET", path, None, READ_SECONDS, query)
        except HTTPError as error:
            raise self._unreachable(error) from error

    def write(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        read_seconds: float = WRITE_SECONDS,
        repeatable: bool = False,
    ) -> Answer:
        """The answer of a call that changes something.

        Sent once; what is ``repeatable`` is sent again where no answer came or the provider fails, and so may be
        answered as what is done already. Raises `Unreachable` where it was not sent, `OutcomeUnknown` where it was and
        no answer came.
        """
        from urllib3.exceptions import (
            ConnectTimeoutError,
            HTTPError,
            NewConnectionError,
            ProxyError,
        )

        try:
            answer = self._request(method, path, body, read_seconds, retries=False)
        except HTTPError as error:
            if isinstance(error, ConnectTimeoutError | NewConnectionError | ProxyError):
                raise self._unreachable(error) from error
            if not repeatable:
                raise self._unanswered(method, path, error) from error
        else:
            if not repeatable or answer.status not in _PASSING:
                return answer
        try:
            return self._retried(method, path, body, READ_SECONDS)
        except HTTPError as error:
            raise self._unanswered(method, path, error) from error

    def _retried(
        self,
        method: str,
        path: str,
        body: Any,
        read_seconds: float,
        query: Mapping[str, str] | None = None,
    ) -> Answer:
        """Until the provider has an answer that is not a failure of its own. Raises urllib3's `HTTPError`."""
        from urllib3.util import Retry

        retries = Retry(
            READ_TRIES - 1,
            status_forcelist=_PASSING,
            allowed_methods=(method,),
            backoff_factor=0.3,
            backoff_max=_LONGEST_PAUSE,
            raise_on_status=False,
            retry_after_max=int(_LONGEST_PAUSE),
        )
        return self._request(method, path, body, read_seconds, retries=retries, query=query)

    def _request(
        self,
        method: str,
        path: str,
        body: Any,
        read_seconds: float,
        *,
        retries: Retry | Literal[False],
        query: Mapping[str, str] | None = None,
    ) -> Answer:
        from urllib3.util import Timeout

        answer = self._pool.request(
            method,
            self._url(path, query),
            body=None if body is None else json.dumps(body).encode(),
            headers={**self._headers, **({} if body is None else {"Content-Type": "application/json"})},
            retries=retries,
            timeout=Timeout(connect=CONNECT_SECONDS, read=read_seconds),
        )
        return Answer(answer.status, answer.data, answer.headers.get("x-request-id"))

    def _url(self, path: str, query: Mapping[str, str] | None) -> str:
        return f"{self.base_url}{path}" + (f"?{urlencode(query)}" if query else "")

    def _unreachable(self, error: Exception) -> Unreachable:
        return Unreachable(
            f"{self._provider} does not answer at {self.base_url}: {error}",
            hint="check the network, and the provider's status page",
        )

    def _unanswered(self, method: str, path: str, error: Exception) -> OutcomeUnknown:
        return OutcomeUnknown(
            f"{self._provider} has not answered {method} {path}: {error}", may_still_happen=True
        )

    @cached_property
    def _pool(self) -> urllib3.PoolManager:
        import urllib3

        proxy = _proxy_for(self.base_url)
        return urllib3.PoolManager() if proxy is None else urllib3.ProxyManager(proxy)


def decoded(answer: Answer, shape: type[Shape], provider: str) -> Shape:
    """The answer's body as that type. Raises `ProviderError` for what does not have its shape."""
    import msgspec

    try:
        return msgspec.json.decode(answer.body, type=shape)
    except msgspec.DecodeError as error:
        raise ProviderError(
            f"{provider} answered in a form that runctl does not know: {error}",
            hint="a newer runctl may know it; else report it, with the command",
        ) from error


def created(answer: Answer, shape: type[Shape], provider: str) -> Shape:
    """As `decoded`, of what was to be made once. Raises `OutcomeUnknown`: a page of whatever stands between may come
    instead of the provider's word, or half of it."""
    try:
        return decoded(answer, shape, provider)
    except ProviderError as error:
        raise OutcomeUnknown(error.message, may_still_happen=True) from error


def usual_refusal(status: int, message: str) -> RunctlError:
    """The error of a status that means the same of every API. Pure."""
    if status == 409:
        return Conflict(message)
    if status == 429:
        return ProviderError(message, hint="wait a minute and try again", code=ASKED_TOO_OFTEN)
    if status in {400, 413, 422}:
        return UsageError(message)
    if status >= 500:
        return Unreachable(message, hint="try again in a moment")
    return ProviderError(message)


def leads_to_sandbox(base_url: str | None) -> bool:
    """Whether it is an address of runctl's sandbox, where nothing costs money."""
    sandbox = os.environ.get(SANDBOX_VARIABLE)
    return bool(sandbox) and base_url is not None and base_url.startswith(f"{sandbox}/")


def _proxy_for(url: str) -> str | None:
    """The proxy that the environment names for this address."""
    # With TLS and all of HTTP behind it: only who calls pays for that import.
    from urllib.request import getproxies, proxy_bypass

    parts = urlsplit(url)
    if proxy_bypass(parts.hostname or ""):
        return None
    return getproxies().get(parts.scheme)
