"""Compiles redirect.c for the processors of machines, and writes src/runctl/agent/attempt/redirect.py.

python scripts/redirect/build.py        (needs gcc and gcc-aarch64-linux-gnu)
"""

from __future__ import annotations

import base64
import hashlib
import subprocess
import tempfile
import textwrap
from pathlib import Path

SOURCE = Path(__file__).with_name("redirect.c")
TARGET = Path(__file__).parents[2] / "src/runctl/agent/attempt/redirect.py"
COMPILERS = {"aarch64": "aarch64-linux-gnu-gcc", "x86_64": "x86_64-linux-gnu-gcc"}
OPTIONS = (
    *("-Os", "-Wall", "-Wextra", "-Werror", "-static", "-nostdlib", "-ffreestanding", "-fno-stack-protector"),
    *("-fno-asynchronous-unwind-tables", "-fno-unwind-tables", "-fno-pic", "-no-pie", "-fcf-protection=none"),
    *("-Wl,--build-id=none", "-Wl,-z,noseparate-code", "-Wl,-z,max-page-size=65536", "-s"),
)


def source_digest() -> str:
    """What the built programs are of."""
    return hashlib.sha256(SOURCE.read_bytes()).hexdigest()


def compile_for(processor: str) -> bytes:
    """The program for one processor. Raises `CalledProcessError` where the source is wrong."""
    options = [one for one in OPTIONS if processor == "x86_64" or one != "-fcf-protection=none"]
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "redirect"
        subprocess.run([COMPILERS[processor], *options, str(SOURCE), "-o", str(out)], check=True)
        return out.read_bytes()


def main() -> None:
    """Write the module."""
    programs = []
    for processor in sorted(COMPILERS):
        text = textwrap.wrap(base64.b64encode(compile_for(processor)).decode(), 100)
        lines = "\n".join(f'        "{line}"' for line in text)
        programs.append(f'    "{processor}": (\n{lines}\n    ),\n')
    TARGET.write_text(
        '"""The program that a run\'s container starts with, from scripts/redirect/redirect.c by build.py there."""\n\n'
        "from __future__ import annotations\n\n"
        f'SOURCE_SHA256 = "{source_digest()}"\n'
        f"PROGRAMS = {{\n{''.join(programs)}}}\n"
        '"""By the machine\'s name for its processor (``uname -m``), in base64."""\n',
        encoding="utf-8",
    )


if __name__ == "__main__":
    main()
