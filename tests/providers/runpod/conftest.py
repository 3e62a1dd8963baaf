"""In these tests nothing goes to the network that is not scripted."""

from tests.providers.scripted_rest import network

__all__ = ["network"]
