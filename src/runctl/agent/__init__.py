"""The program on the machine: starts a training, watches it, and ends it.

Standard library only, Python 3.9 or newer, shipped as one zipapp. Nothing here imports anything else of
runctl; the rest of runctl imports only ``runctl.agent.spec``, and ``runctl.agent.package``, which builds the
zipapp.
"""
