"""The machine's own metadata service (EC2's IMDSv2): the one client of it."""

from __future__ import annotations

import time
from calendar import timegm
from collections.abc import Mapping
from urllib.parse import urlsplit

from runctl.agent.cloud.http import Connection

ADDRESS = "http://169.254.169.254"
ENDPOINT_VARIABLE = "AWS_EC2_METADATA_SERVICE_ENDPOINT"
_TOKEN = "x-aws-ec2-metadata-token"  # noqa: S105 (the name of a header)
_LIFETIME = _TOKEN + "-ttl-seconds"
_TOKEN_SECONDS = 300
_CLOCK_TOLERANCE = 2.0


class Metadata:
    """Not safe to use from several threads."""

    def __init__(self, variables: Mapping[str, str], timeout: float) -> None:
        url = urlsplit(variables.get(ENDPOINT_VARIABLE) or ADDRESS)
        self._host = url.netloc
        self._connection = Connection(url.hostname or "", url.port or 80, None, timeout)
        self._token = ""
        self._token_ends = 0.0
        self.clock_ahead = 0.0
        """Seconds by which this machine's clock is ahead of the service's, as far as its answers tell."""

    def get(self, path: str) -> str | None:
        """What is at the path below ``latest/meta-data``; ``None`` where there is nothing.

        Raises `OSError` where the service does not answer, or not as it should.
        """
        try:
            if time.monotonic() >= self._token_ends:
                self._new_token()
            status, text = self._read(path)
            if status == 401:
                self._new_token()
                status, text = self._read(path)
        except ValueError as error:
            raise OSError(f"the metadata service's answer cannot be read: {error}") from error
        finally:
            self._connection.close()
        if status == 404:
            return None
        if status != 200:
            raise OSError(f"the metadata service answers {path} with status {status}")
        return text

    def _read(self, path: str) -> tuple[int, str]:
        return self._ask("GET", "/latest/meta-data/" + path, {_TOKEN: self._token})

    def _new_token(self) -> None:
        asked = time.monotonic()
        status, token = self._ask("PUT", "/latest/api/token", {_LIFETIME: str(_TOKEN_SECONDS)})
        if status != 200:
            raise OSError(f"the metadata service gives no token: status {status}")
        self._token, self._token_ends = token, asked + _TOKEN_SECONDS / 2

    def _ask(self, method: str, path: str, headers: Mapping[str, str]) -> tuple[int, str]:
        extra = {"content-length": "0"} if method == "PUT" else {}
        head = self._connection.ask(method, path, {"host": self._host, **extra, **headers})
        self._compare_clocks(head.headers.get("date", ""))
        return head.status, b"".join(map(bytes, self._connection.body(method, head))).decode()

    def _compare_clocks(self, date: str) -> None:
        try:
            there = timegm(time.strptime(date, "%a, %d %b %Y %H:%M:%S GMT"))
        except ValueError:
            return
        # The header has whole seconds; what differs less than that is no difference.
        ahead = time.time() - (there + 0.5)
        if abs(ahead - self.clock_ahead) > _CLOCK_TOLERANCE:
            self.clock_ahead = ahead
