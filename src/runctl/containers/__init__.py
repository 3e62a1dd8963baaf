"""Containers on the machine: what is mounted into them."""
