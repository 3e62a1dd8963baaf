"""The AWS provider against moto, for what needs no machine's body."""

from tests.providers.aws.conftest import (
    aws,
    clock,
    context,
    loaded_clients,
    moto_endpoint,
    progress,
    provider,
    session,
)

__all__ = ["aws", "clock", "context", "loaded_clients", "moto_endpoint", "progress", "provider", "session"]
