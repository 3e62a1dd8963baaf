"""The machine's NVIDIA GPUs, as nvidia-smi sees them; none where there is no nvidia-smi."""

from __future__ import annotations

import shutil
import subprocess
from typing import Any

SMI_SECONDS = 10.0
FIELDS = ("index", "name", "memory.total", "memory.used", "utilization.gpu", "driver_version")


def parse(text: str) -> list[dict[str, Any]]:
    """The lines of ``nvidia-smi --query-gpu=… --format=csv,noheader,nounits``; MiB and percent."""
    found = []
    for line in text.splitlines():
        fields = [field.strip() for field in line.split(",")]
        if len(fields) == len(FIELDS):
            found.append(
                {
                    "index": _number(fields[0]),
                    "name": fields[1],
                    "memory_mib": _number(fields[2]),
                    "memory_used_mib": _number(fields[3]),
                    "percent": _number(fields[4]),
                    "driver": fields[5],
                }
            )
    return found


def _number(text: str) -> int | None:
    # "[N/A]" and "[Not Supported]" are what it says for what it does not know.
    return int(text) if text.isdigit() else None


def gpus() -> list[dict[str, Any]]:
    """Every GPU now."""
    smi = shutil.which("nvidia-smi")
    if smi is None:
        return []
    argv = [smi, "--query-gpu=" + ",".join(FIELDS), "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=SMI_SECONDS, check=True)
    except (OSError, subprocess.SubprocessError):
        return []
    return parse(done.stdout)


def mean_percent(found: list[dict[str, Any]]) -> float | None:
    """How busy they are together."""
    busy = [gpu["percent"] for gpu in found if gpu["percent"] is not None]
    return round(sum(busy) / len(busy), 1) if busy else None
