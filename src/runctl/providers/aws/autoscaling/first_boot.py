"""What the user data of a group's machines has besides that of every machine: the program that takes up the run.

The one place at which the machine and what lies at the run's address meet: `take_up_script`.
"""

from __future__ import annotations

import base64
import json
import shlex
import zlib
from functools import cache
from importlib import resources

from runctl.agent.object_store import domain_of
from runctl.agent.package import without_prose
from runctl.providers.abilities.groups import START_AGENT, TakeUp


def take_up_script(take_up: TakeUp, *, group: str, login_user: str, region: str, store_region: str) -> str:
    """Lines that follow those of `runctl.providers.first_boot.user_data`. Every value is quoted."""
    wanted = {
        "url": take_up.url.rstrip("/"),
        "run_id": take_up.run_id,
        "agent": START_AGENT,
        "agent_sha256": take_up.agent_sha256,
        "user": login_user,
        "group": group,
        "region": region,
        "store_region": store_region,
        "domain": domain_of(region),
    }
    return f"RUNCTL_TAKE_UP={shlex.quote(json.dumps(wanted, separators=(',', ':')))}\n{_program()}"


@cache
def _program() -> str:
    here = resources.files("runctl.providers.aws.autoscaling")
    source = without_prose(here.joinpath("start_program.py").read_text(encoding="utf-8"))
    packed = base64.b64encode(zlib.compress(source.encode(), 9)).decode()
    lines = "\n".join(packed[start : start + 100] for start in range(0, len(packed), 100))
    return here.joinpath("take_up.sh").read_text(encoding="utf-8").replace("PROGRAM", lines, 1)
