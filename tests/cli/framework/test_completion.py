"""What shells are offered: commands, options, values and names."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from runctl.core.files import cache_folder
from tests.cli.process import START, completed, modules_after


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_has_a_completion_script(shell: str) -> None:
    done = completed("completion", shell)
    assert done.returncode == 0
    assert f"_RUNCTL_COMPLETE={shell}_complete" in done.stdout


@pytest.mark.parametrize(
    ("argv", "offered"),
    [
        ("runctl ", {"aws", "local", "runs", "doctor"}),
        ("runctl aws te", {"terminate"}),
        ("runctl aws ebs ", {"create", "list", "attach", "detach", "delete"}),
        ("runctl --region x aws ebs d", {"detach", "delete"}),
        ("runctl aws list --every", {"--everyone"}),
        ("runctl aws list --outp", {"--output"}),
        ("runctl aws exec x --transport s", {"ssh", "ssm"}),
        ("runctl config set aws.re", {"aws.region"}),
    ],
)
def test_bash_is_offered_what_fits(argv: str, offered: set[str]) -> None:
    parts = argv.split(" ")
    done = completed(
        env={
            "_RUNCTL_COMPLETE": "bash_complete",
            "COMP_WORDS": argv,
            "COMP_CWORD": str(len(parts) - 1),
        }
    )
    assert offered <= {line.partition(",")[2] for line in done.stdout.split()}


def test_a_real_bash_completes_with_the_script(tmp_path: Path) -> None:
    program = tmp_path / "runctl"
    program.write_text(f"#!{sys.executable}\n{START}\n")
    program.chmod(0o755)
    asked = (
        'eval "$(runctl completion bash)"; COMP_WORDS=(runctl aws ebs att); COMP_CWORD=3; '
        '_runctl_completion runctl; echo "${COMPREPLY[*]}"'
    )
    done = subprocess.run(
        ["bash", "-c", asked],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
        env={**os.environ, "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"},
    )
    assert (done.stdout, done.stderr) == ("attach\n", "")


def test_completion_of_commands_imports_click_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("_RUNCTL_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", "runctl aws ")
    monkeypatch.setenv("COMP_CWORD", "2")
    assert modules_after() == {"runctl", "click"}


def offered(argv: str) -> list[str]:
    """What bash is offered for the last word."""
    count = len(argv.split(" ")) - 1
    done = completed(env={"_RUNCTL_COMPLETE": "bash_complete", "COMP_WORDS": argv, "COMP_CWORD": str(count)})
    assert done.returncode == 0, done.stderr
    return [line.partition(",")[2] for line in done.stdout.split()]


def test_runs_are_offered_by_name_and_id_from_the_local_state() -> None:
    from runctl.core.database import Database
    from runctl.core.files import state_file

    database = Database(state_file())
    with database.transaction() as connection:
        connection.execute(
            "INSERT INTO runs (id, name, provider, instance_id, project, script, args, state, attempt, created_at,"
            " mounts) VALUES ('run-abc', 'baseline', 'aws', 'i-1', 'p', 'train.py', '[]', 'ended', 1, '2026', '[]')"
        )
    database.close()
    assert offered("runctl runs show ru") == ["run-abc"]
    assert set(offered("runctl runs logs ")) == {"latest", "baseline", "run-abc"}
    assert offered("runctl aws monitor i-1 b") == ["baseline"]


def test_what_commands_have_shown_is_offered_until_it_has_ended() -> None:
    from runctl.cli.framework.completion_memory import INSTANCES, SNAPSHOTS, VOLUMES, Seen, remember

    machine = Seen("i-0123456789abcdef0", "digits", "g5.xlarge, running")
    dead = Seen("i-0fedcba9876543210", "digits-old", "g5.xlarge, running")
    remember(INSTANCES, [machine, dead], provider="aws", region="us-east-1")
    remember(
        INSTANCES, [Seen(dead.id, dead.name, "terminated", is_over=True)], provider="aws", region="us-east-1"
    )
    remember(VOLUMES, [Seen("vol-0123456789abcdef0", "datasets", "100 GiB")], provider="aws", region=None)

    remember(SNAPSHOTS, [Seen("snap-0123456789abcdef0", "nightly", "100 GiB")], provider="aws", region=None)

    assert offered("runctl aws ebs restore ni") == ["nightly"]
    assert offered("runctl aws terminate i-") == [machine.id]
    assert offered("runctl aws train dig") == ["digits"]
    assert offered("runctl aws ebs show da") == ["datasets"]
    assert offered("runctl aws create --ebs-volume vol-") == ["vol-0123456789abcdef0"]
    assert "g5.xlarge" in offered("runctl aws create g5.")

    remember(INSTANCES, [], provider="aws", region="eu-west-1", everything=True)
    assert offered("runctl aws terminate dig") == ["digits"]
    remember(INSTANCES, [], provider="aws", region="us-east-1", everything=True)
    assert offered("runctl aws terminate dig") == []


def test_names_of_another_account_or_sandbox_are_not_offered(monkeypatch: pytest.MonkeyPatch) -> None:
    from runctl.cli.framework.completion_memory import INSTANCES, Seen, remember

    remember(INSTANCES, [Seen("i-1", "digits", "")], provider="aws", region=None)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    assert offered("runctl aws terminate dig") == []


@pytest.mark.parametrize(
    "damaged",
    [
        *("", "[]", "{"),
        '{"aws/0123456789abcdef": {"instances": [{"id": "i-2"}]}}',
        '{"aws/0123456789abcdef": {"instances": 5}}',
        '{"runpod|rpa_mine": {"instances": []}}',
    ],
)
def test_a_damaged_memory_offers_nothing_and_is_written_anew(damaged: str) -> None:
    from runctl.cli.framework.completion_memory import INSTANCES, Seen, remember, seen

    cache_folder().mkdir(parents=True, exist_ok=True)
    (cache_folder() / "completion.json").write_text(damaged)
    assert seen(INSTANCES) == []
    remember(INSTANCES, [Seen("i-1", None, "")], provider="aws", region=None)
    assert [thing.id for thing in seen(INSTANCES)] == ["i-1"]
    assert "rpa_mine" not in (cache_folder() / "completion.json").read_text()


def test_the_key_of_an_account_is_not_written_to_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    from runctl.cli.framework.completion_memory import INSTANCES, Seen, remember, seen

    monkeypatch.setenv("RUNPOD_API_KEY", "rpa_mine")
    remember(INSTANCES, [Seen("7h9k2m4n6p", "digits", "")], provider="runpod", region=None)
    assert [thing.id for thing in seen(INSTANCES, "runpod")] == ["7h9k2m4n6p"]
    assert "rpa_mine" not in (cache_folder() / "completion.json").read_text()
    monkeypatch.setenv("RUNPOD_API_KEY", "rpa_another")
    assert seen(INSTANCES, "runpod") == []


def test_completion_without_any_state_offers_nothing_and_makes_no_file() -> None:
    from runctl.core.files import state_file

    done = completed(
        env={"_RUNCTL_COMPLETE": "bash_complete", "COMP_WORDS": "runctl aws status i-", "COMP_CWORD": "3"}
    )
    assert (done.stdout.strip(), done.stderr) == ("", "")
    assert not state_file().exists()
