"""Lyceum AI's virtual machines: rented by a profile and a number of GPUs, reached by SSH, ended by a call."""
