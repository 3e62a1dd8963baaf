"""The program that fills a volume: the agent's verb ``fill``.

A run starts it as it starts any script (`RunSpec.builtin`), so that its log, its exit code, a stop and the survival of
the laptop are a run's. What it prints is JSON lines (see `report`).
"""
