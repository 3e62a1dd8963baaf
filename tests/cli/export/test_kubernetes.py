"""``export kubernetes`` as it is typed, where no account is needed."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from tests.cli.conftest import Invoke

IMAGE = "digits@sha256:" + "0" * 64


@pytest.fixture(autouse=True)
def _project(invoke: Invoke) -> None:
    # It is in the project's folder from then on.
    Path("train.py").touch()


@pytest.mark.parametrize(
    ("options", "limit"),
    [
        ((), 0),
        (("--on-demand", "--auto-resume"), 19),
        (("--spot",), 19),
        (("--spot", "--no-auto-resume"), 0),
        (("--spot", "--max-attempts", "5"), 4),
        (("--nodes", "2"), 0),
        (("--nodes", "2", "--spot"), 4),
        (("--nodes", "2", "--max-attempts", "2"), 2),
    ],
)
def test_a_lost_pod_is_replaced_where_that_is_usual_or_asked_for(
    invoke: Invoke, options: tuple[str, ...], limit: int
) -> None:
    done = invoke("export", "kubernetes", "train.py", "--image", IMAGE, *options)

    assert done.exit_code == 0, done.stderr
    assert list(yaml.safe_load_all(done.stdout))[-1]["spec"]["backoffLimit"] == limit
    assert ("is tried again, too" in done.stdout) is (limit > 0 and "--nodes" in options)
