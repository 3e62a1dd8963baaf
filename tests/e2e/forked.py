"""``runctl`` commands as processes that are forked from one which has imported everything: see `tests.forking`.

What a start itself does is asked of the installed program: by `CommandLine.start`, by the documentation's pages and by
``tests/cli/test_main.py``.
"""

from __future__ import annotations

import importlib
import pkgutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.forking import Program

PROGRAM = Path(sys.executable).with_name("runctl")
LEFT_OUT = ("runctl.agent.", "runctl.callbacks.", "runctl.sandbox.", "runctl.__main__")
"""What a command does not import."""
SERVICES = ("ec2", "ssm", "sts", "s3", "iam", "pricing")
"""Of AWS, that most commands ask."""
LIBRARIES = ("boto3", "botocore.httpsession", "botocore.parsers", "botocore.signers", "s3transfer.manager")

_commands = Program(__name__)


def run(
    argv: Sequence[str], *, cwd: Path, env: Mapping[str, str], stdin: bytes, timeout: float
) -> tuple[int, bytes, bytes]:
    """Carry a command out to its end: its exit code (as `subprocess` has it), stdout and stderr."""
    return _commands.run({"argv": list(argv)}, cwd=cwd, env=env, stdin=stdin, timeout=timeout)


def load() -> None:
    """What a command imports, and what it reads of botocore."""
    import runctl

    for module in pkgutil.walk_packages(runctl.__path__, "runctl."):
        if not module.name.startswith(LEFT_OUT):
            importlib.import_module(module.name)
    for name in LIBRARIES:
        importlib.import_module(name)
    from runctl.providers.aws.calls.botocore_loader import loader

    for service in SERVICES:
        for kind in ("service-2", "endpoint-rule-set-1"):
            loader(None).load_service_model(service, kind)
    # As for the script: what lies in the folder where a command runs is none of its modules.
    sys.path[0] = str(PROGRAM.parent)


def main(request: Any) -> Any:
    """What the installed script does."""
    from runctl.cli.main import main as program

    sys.argv = [str(PROGRAM), *request["argv"]]
    return program()
