"""Faults of the network, of AWS and of machines, put at every call of a command: see docs/development.md."""
