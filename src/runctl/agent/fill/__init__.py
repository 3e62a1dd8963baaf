"""The program that fills a volume. It runs on the machine: standard library only, Python 3.9, nothing else of ours.

It is sent there as a project (see `runctl.storage.program`) and run by the agent as any script is, so that its log,
its exit code, a stop and the survival of the laptop are the agent's. What it says is JSON lines (see `report`).
"""
