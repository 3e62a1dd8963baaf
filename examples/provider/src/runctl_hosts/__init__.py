"""Machines that one has already, reached over SSH, as a provider of runctl."""
