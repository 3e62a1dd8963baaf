"""What ended runs keep on a machine, and its removal."""

from __future__ import annotations

from tests.agent.driver import Agent

CODE = "import os\nopen(os.environ['RUNCTL_OUTPUT_DIR'] + '/metrics', 'w').write('x')\n"


def test_what_an_ended_run_keeps_goes_but_for_its_results_and_a_living_one_stays(agent: Agent) -> None:
    agent.sync({"train.py": CODE, "long.py": "import time\nprint('up')\ntime.sleep(600)\n"})
    agent.start("done", "train.py")
    agent.ended("done")
    agent.start("living", "long.py")
    agent.says("living", "up")
    kept = {item["run_id"]: item for item in agent.call("runs").ok["runs"]}
    refused = agent.call("prune", {"run_ids": ["done", "living"]})
    folder = agent.state / "runs/done"

    assert (kept["done"]["ended"], kept["living"]["ended"]) == (True, False)
    assert kept["done"]["work_bytes"] > 0 < kept["done"]["result_bytes"]
    assert refused.error["code"] == "run-goes-on"
    assert (folder / "1").is_dir()
    agent.call("prune", {"run_ids": ["done"]}).ok  # noqa: B018
    assert sorted(path.name for path in folder.iterdir()) == ["output"]
    assert (folder / "output/metrics").read_text() == "x"
    agent.call("prune", {"run_ids": ["done", "never"], "results": True}).ok  # noqa: B018
    assert not folder.exists()
    assert agent.call("prune", {"run_ids": ["../projects"]}).error["code"] == "bad-request"
