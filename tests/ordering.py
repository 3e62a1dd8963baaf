"""In which order tests run beside each other: what takes long comes first, so that nobody waits for it at the end."""

from __future__ import annotations

from collections.abc import Sequence

LONGEST = (
    "docs/test_documentation.py",
    "machines/test_cut_short.py",
    "e2e/test_aws.py",
    "e2e/test_ebs.py",
    "e2e/test_training_volumes.py",
    "e2e/test_prewarm.py",
    "faults/test_campaign.py",
    "e2e/test_launch.py",
    "e2e/test_recovery.py",
    "e2e/test_images.py",
    "e2e/test_kept_logs.py",
    "e2e/test_local.py",
    "e2e/test_hosts_provider.py",
    "e2e/test_folders.py",
    "e2e/test_refusals.py",
    "e2e/test_watch.py",
)
"""Files below ``tests``, the longest first; measured, and a guess is good enough."""


def shares(files: Sequence[str], workers: int) -> list[int]:
    """The order (as positions in ``files``, one a test) in which each worker's share begins with long files.

    pytest-xdist's ``worksteal`` gives every worker a run of neighbours, as even as can be, and lets those who have
    nothing left take from the ends of the others' runs.
    """
    long: list[list[int]] = [[] for _ in range(workers)]
    for turn, name in enumerate(name for name in LONGEST if any(file.endswith(name) for file in files)):
        long[turn % workers] += [place for place, file in enumerate(files) if file.endswith(name)]
    chosen = {place for item in long for place in item}
    rest = [place for place in range(len(files)) if place not in chosen]
    order: list[int] = []
    for worker, first in enumerate(long):
        room = (len(files) - len(order)) // (workers - worker) - len(first)
        order += first + rest[: max(0, room)]
        rest = rest[max(0, room) :]
    return order + rest
