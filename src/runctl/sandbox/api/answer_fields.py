"""What one request changes in the form of its answer changes no other answer.

moto keeps these changes with the class of a service's requests, where every thread reads them for every field of every
answer: the first DescribeKeyPairs of a process broke the answers that were being written (HTTP 500), and one that
wanted public keys decided for all.
"""

from __future__ import annotations

from typing import Any

from moto.core.responses import BaseResponse

_make = BaseResponse.__init__


def install() -> None:
    """From now on every request that moto answers has changes of its own."""
    BaseResponse.__init__ = _with_own_changes  # type: ignore[method-assign]


def _with_own_changes(self: BaseResponse, *arguments: Any, **named: Any) -> None:
    _make(self, *arguments, **named)
    self.RESPONSE_KEY_PATH_TO_TRANSFORMER = dict(type(self).RESPONSE_KEY_PATH_TO_TRANSFORMER)
