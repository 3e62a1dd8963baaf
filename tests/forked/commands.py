"""The programs that `server` forks: runctl, and those of tests that end it on the way."""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path
from typing import Any

PROGRAM = Path(sys.executable).with_name("runctl")
LEFT_OUT = (
    *("runctl.agent.", "runctl.callbacks.", "runctl.sandbox.", "runctl.testing.", "runctl.__main__"),
    "runctl.cli.top.",
)
"""What most commands do not import: every fork costs by what there is."""
SERVICES = ("ec2", "ssm", "sts", "s3", "iam", "pricing")
"""Of AWS, that most commands ask."""
LIBRARIES = (
    *("boto3", "botocore.httpsession", "botocore.parsers", "botocore.signers", "s3transfer.manager"),
    "runctl.sandbox.control",
)
OTHERS = (
    *("tests.e2e.killed", "tests.e2e.killed_rest", "tests.e2e.recorded_rest", "tests.machines.killed"),
    "tests.forked.sandboxes",
)
"""Programs beside runctl: modules with a ``main()`` that reads ``sys.argv``."""


def load() -> None:
    """What a command imports, and what it reads of botocore and remembers of it."""
    import runctl

    sources = Path(runctl.__file__).parent
    for path in sorted(sources.rglob("*.py")):
        module = path.relative_to(sources.parent).with_suffix("").as_posix().replace("/", ".")
        if not module.startswith(LEFT_OUT):
            importlib.import_module(module.removesuffix(".__init__"))
    for name in (*LIBRARIES, *OTHERS):
        importlib.import_module(name)
    from botocore.session import Session

    from runctl.agent import package
    from runctl.core.config import rules
    from runctl.providers.aws.calls.botocore_loader import loader

    session = Session()
    session.register_component("data_loader", loader(None))
    for service in SERVICES:
        for kind in ("service-2", "endpoint-rule-set-1"):
            loader(None).load_service_model(service, kind)
        # botocore remembers the names of a service's operations from one client to the next.
        session.create_client(
            service, region_name="us-east-1", aws_access_key_id="nobody", aws_secret_access_key="nothing"
        )
    rules()
    package.digest()
    package.guard()
    package.zipapp()
    # As for the script: what lies in the folder where a command runs is none of its modules.
    sys.path[0] = str(PROGRAM.parent)


def main(request: Any) -> Any:
    """What the installed script does, or another program that was asked for."""
    if request.get("session"):
        os.setsid()
    if other := request.get("program"):
        sys.argv = [other, *request["argv"]]
        return sys.modules[other].main()
    from runctl.cli.main import main as program

    sys.argv = [str(PROGRAM), *request["argv"]]
    return program()
