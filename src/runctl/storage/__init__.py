"""Volumes on machines, and the data on them."""
