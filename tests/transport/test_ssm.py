"""Systems Manager's limits and moods."""

from __future__ import annotations

import base64
import json
import os
import pwd
import re
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Iterator
from datetime import timedelta
from io import BytesIO
from pathlib import Path, PurePosixPath
from types import ModuleType
from typing import Any

import pytest
from botocore.exceptions import EndpointConnectionError, NoCredentialsError

from runctl.core.errors import (
    CredentialsError,
    InstanceEnded,
    MachineError,
    PermissionDenied,
    ProviderError,
    Unreachable,
    Unsupported,
)
from runctl.core.progress import Silent
from runctl.providers.aws.ssm import remote as ssm_remote
from runctl.providers.aws.ssm import spool as ssm_spool
from runctl.providers.aws.ssm.run_command import RemoteError, RunCommand
from runctl.providers.aws.ssm.transport import SsmTransport
from runctl.testing.progress import RecordedProgress
from runctl.transport.interface import CommandTimeout
from tests.transport.conftest import hurry
from tests.transport.ssm_server import FakeSsm, FolderStaging, client_error

pytestmark = [pytest.mark.root, pytest.mark.linux]


@pytest.fixture
def bare(ssm: FakeSsm) -> SsmTransport:
    """Without a staging store."""
    return SsmTransport(ssm, ssm.instance_id, user="root", sleep=hurry)


@pytest.fixture
def staged(ssm: FakeSsm, store: FolderStaging) -> SsmTransport:
    return SsmTransport(ssm, ssm.instance_id, user="root", staging=store, sleep=hurry)


@pytest.fixture(autouse=True)
def no_spool_is_left(ssm: FakeSsm) -> Iterator[None]:
    """Every test leaves the machine as it was."""
    yield
    ssm.close()
    ours = [ssm_spool.spool(request) for request in requests(ssm) if len(request["id"]) == 32]
    assert [path for path in ours if path.exists()] == []
    for path in ours:
        # It stays for an hour, so that a request that arrives twice is carried out once.
        path.with_name(path.name + ssm_spool.DONE).unlink(missing_ok=True)


def requests(ssm: FakeSsm) -> list[dict[str, Any]]:
    return [json.loads(sent["Parameters"]["commands"][2]) for sent in ssm.sent]


def verbs(ssm: FakeSsm) -> list[str]:
    return [request["op"] for request in requests(ssm)]


def test_a_small_command_is_one_command(bare: SsmTransport, ssm: FakeSsm) -> None:
    assert bare.run(["cat"], stdin=b"small").stdout == b"small"
    assert verbs(ssm) == ["start"]


def test_text_that_compresses_needs_one_command_although_it_is_long(bare: SsmTransport, ssm: FakeSsm) -> None:
    done = bare.run(["seq", "20000"])
    assert done.stdout == b"".join(b"%d\n" % n for n in range(1, 20001))
    assert len(done.stdout) > 100_000
    assert verbs(ssm).count("start") == 1
    assert len(ssm.sent) <= 5


@pytest.mark.parametrize("size", [16_000, 17_000, 20_000, 23_999, 24_000, 24_001, 100_000])
def test_noise_around_the_limit_of_an_answer_arrives_whole(
    bare: SsmTransport, tmp_path: Path, size: int
) -> None:
    noise = os.urandom(size)
    (tmp_path / "noise").write_bytes(noise)
    done = bare.run(["sh", "-c", 'cat "$1"; cat "$1" >&2', "sh", str(tmp_path / "noise")])
    assert done.stdout == noise
    assert done.stderr == noise


def test_no_answer_is_cut_by_ssm(bare: SsmTransport, ssm: FakeSsm, tmp_path: Path) -> None:
    (tmp_path / "noise").write_bytes(os.urandom(60_000))
    bare.run(["sh", "-c", 'cat "$1"; cat "$1" >&2', "sh", str(tmp_path / "noise")])
    assert all(path.stat().st_size < 24_000 for path in ssm.folder.glob("*.out"))


def test_large_input_without_staging_goes_in_several_commands(bare: SsmTransport, ssm: FakeSsm) -> None:
    noise = os.urandom(90_000)
    assert bare.run(["cat"], stdin=noise).stdout == noise
    assert verbs(ssm)[:4] == ["append"] * 4


def test_large_pieces_go_through_the_staging_store_and_do_not_stay_there(
    staged: SsmTransport, ssm: FakeSsm, store: FolderStaging
) -> None:
    noise = os.urandom(2_000_000)
    assert staged.run(["cat"], stdin=noise).stdout == noise
    assert verbs(ssm) == ["start", "upload", "drop"]
    assert len(store.keys) == 2
    assert [path for path in store.folder.rglob("*") if path.is_file()] == []


def test_a_private_input_leaves_nothing_in_the_history(
    staged: SsmTransport, ssm: FakeSsm, store: FolderStaging
) -> None:
    seen = bytearray()
    assert staged.run(["sh", "-c", "wc -c"], stdin=b"the secret", private=True).stdout.split() == [b"10"]
    assert staged.run(["echo", "a secret argument"], private=True).stdout == b"a secret argument\n"
    assert (
        staged.stream(
            ["cat"], stdin=BytesIO(b"x"), on_stdout=seen.extend, on_stderr=seen.extend, private=True
        )
        == 0
    )
    history = "".join(line for sent in ssm.sent for line in sent["Parameters"]["commands"])
    assert "secret" not in history
    assert all("data" not in request["input"] for request in requests(ssm) if request["op"] == "start")
    assert bytes(seen) == b"x"
    assert [path for path in store.folder.rglob("*") if path.is_file()] == []


@pytest.mark.parametrize("fate", ["carried-out", "never-arrived", "twice"])
@pytest.mark.parametrize("size", [10, 50_000])
def test_a_command_whose_answer_is_lost_runs_once(
    bare: SsmTransport, ssm: FakeSsm, tmp_path: Path, fate: str, size: int
) -> None:
    noise = os.urandom(size)
    (tmp_path / "noise").write_bytes(noise)
    ssm.lose.append(fate)

    done = bare.run(["sh", "-c", 'echo once >>"$1/count"; cat "$1/noise"', "sh", str(tmp_path)])

    assert (tmp_path / "count").read_text() == "once\n"
    assert (done.exit_code, done.stdout) == (0, noise)
    assert verbs(ssm).count("start") == (2 if fate == "twice" else 1)


@pytest.mark.parametrize("fate", ["carried-out", "never-arrived", "twice"])
def test_a_file_whose_answer_is_lost_is_written(
    staged: SsmTransport, ssm: FakeSsm, tmp_path: Path, fate: str
) -> None:
    ssm.lose.append(fate)

    staged.put(os.urandom(100_000), PurePosixPath(tmp_path / "file"))

    assert (tmp_path / "file").stat().st_size == 100_000


@pytest.mark.parametrize("lost", range(1, 5))
def test_whichever_request_of_a_command_is_lost_its_output_is_whole(
    bare: SsmTransport, ssm: FakeSsm, tmp_path: Path, lost: int
) -> None:
    noise = os.urandom(50_000)
    (tmp_path / "noise").write_bytes(noise)
    ssm.lose += [""] * (lost - 1) + ["twice"]

    assert bare.run(["cat", str(tmp_path / "noise")]).stdout == noise


def test_a_start_that_arrives_after_its_caller_gave_up_starts_nothing(ssm: FakeSsm, tmp_path: Path) -> None:
    commands = RunCommand(ssm, ssm.instance_id, sleep=hurry)
    request = {"id": os.urandom(16).hex(), "argv": ["touch", str(tmp_path / "ran")], "user": "root"}
    commands.ask("drop", request)

    with pytest.raises(RemoteError, match="given it up"):
        commands.ask("start", request)

    assert not (tmp_path / "ran").exists()


def test_a_machine_that_its_provider_calls_ended_is_not_waited_for(ssm: FakeSsm) -> None:
    now, asked = [0.0], [0]

    def sleep(seconds: float) -> None:
        now[0] += seconds

    def still_there(_silent: float) -> None:
        asked[0] += 1
        if now[0] > 12:
            raise InstanceEnded("it is terminated")

    ssm.deaf = True
    commands = RunCommand(
        ssm, ssm.instance_id, still_there=still_there, sleep=sleep, monotonic=lambda: now[0]
    )
    with pytest.raises(InstanceEnded):
        commands.ask("drop", {"id": "0" * 32})

    assert now[0] < 20
    assert asked[0] <= 4


def test_a_store_that_the_machine_cannot_reach_is_done_without(ssm: FakeSsm, store: FolderStaging) -> None:
    class Apart(FolderStaging):
        def get_url(self, key: str) -> str:
            return "http://127.0.0.1:9/" + key

    progress = RecordedProgress()
    apart = Apart(store.folder, store.url)
    transport = SsmTransport(ssm, ssm.instance_id, user="root", staging=apart, progress=progress, sleep=hurry)

    assert transport.run(["cat"], stdin=b"once", private=True).stdout == b"once"
    assert any("30 days" in warning for warning in progress.warnings)


def test_without_a_store_a_private_input_passes_with_a_warning(ssm: FakeSsm) -> None:
    class Warnings(Silent):
        said = ""

        def warn(self, message: str) -> None:
            self.said += message

    warnings = Warnings()
    transport = SsmTransport(ssm, ssm.instance_id, user="root", progress=warnings, sleep=hurry)
    assert transport.run(["cat"], stdin=b"the secret", private=True).stdout == b"the secret"
    assert "command history" in warnings.said


def test_a_store_that_the_machine_cannot_write_to_is_done_without(
    ssm: FakeSsm, store: FolderStaging, tmp_path: Path
) -> None:
    class Unwritable(FolderStaging):
        def put_url(self, key: str) -> str:
            return f"http://127.0.0.1:1/{key}"

    class Notes(Silent):
        said = ""

        def note(self, message: str) -> None:
            self.said += message

    (tmp_path / "noise").write_bytes(os.urandom(150_000))
    notes = Notes()
    transport = SsmTransport(
        ssm,
        ssm.instance_id,
        user="root",
        staging=Unwritable(store.folder, store.url),
        progress=notes,
        sleep=hurry,
    )
    done = transport.run(["cat", str(tmp_path / "noise")])
    assert done.stdout == (tmp_path / "noise").read_bytes()
    assert "in pieces instead" in notes.said


def test_a_store_that_we_may_not_use_is_done_without(ssm: FakeSsm, tmp_path: Path) -> None:
    class Denied:
        """No rights in S3 at all."""

        def __getattr__(self, name: str) -> Any:
            def refuse(*_: Any) -> Any:
                raise PermissionDenied(f"{name} is denied")

            return refuse

    transport = SsmTransport(ssm, ssm.instance_id, user="root", staging=Denied(), sleep=hurry)
    noise = os.urandom(120_000)
    assert transport.run(["cat"], stdin=noise).stdout == noise


def test_a_machine_that_is_a_folder_keeps_its_own_environment(ssm: FakeSsm, tmp_path: Path) -> None:
    ssm.env = {
        "RUNCTL_MACHINE_ROOT": str(tmp_path),
        "RUNCTL_AGENT_STATE": f"{tmp_path}/state",
        "HOME": str(tmp_path),
    }
    transport = SsmTransport(ssm, ssm.instance_id, user="no-such-user", sleep=hurry)
    done = transport.run(["sh", "-c", "pwd; echo $HOME $RUNCTL_AGENT_STATE; id -u"])
    assert done.stdout.decode().split() == [
        str(tmp_path),
        str(tmp_path),
        f"{tmp_path}/state",
        str(os.getuid()),
    ]
    transport.put(b"x", PurePosixPath("below home"))
    assert (tmp_path / "below home").read_bytes() == b"x"


def test_what_the_store_spoils_is_noticed(ssm: FakeSsm, store: FolderStaging, tmp_path: Path) -> None:
    class Spoiling(FolderStaging):
        def write(self, key: str, source: Any) -> None:
            super().write(key, source)
            (self.folder / key).write_bytes(zlib.compress(b"something else"))

    transport = SsmTransport(
        ssm, ssm.instance_id, user="root", staging=Spoiling(store.folder, store.url), sleep=hurry
    )
    target = tmp_path / "target"
    with pytest.raises(MachineError) as caught:
        transport.put(os.urandom(100_000), PurePosixPath(target))
    assert caught.value.code == "integrity"
    assert not target.exists()


def test_braces_do_not_become_parameters_of_the_document(bare: SsmTransport) -> None:
    words = ["{{ssm:secret}}", "{{{x}}}", "{{", "}}", "{%raw%}"]
    assert bare.run(["printf", "%s\\n", *words]).stdout.decode().split("\n")[:-1] == words


def test_what_is_sent_cannot_be_seen_in_the_process_list(bare: SsmTransport, ssm: FakeSsm) -> None:
    secret = os.urandom(300)
    script = "cat >/dev/null; for f in /proc/[0-9]*/cmdline; do cat $f 2>/dev/null; done; true"
    done = bare.run(["sh", "-c", script], stdin=secret)
    sent = requests(ssm)[0]["input"]["data"].encode()
    assert zlib.decompress(base64.b64decode(sent)) == secret
    assert b"decompress" in done.stdout
    assert sent not in done.stdout


def test_a_command_line_beyond_the_limit_is_refused_before_it_is_sent(
    bare: SsmTransport, ssm: FakeSsm
) -> None:
    with pytest.raises(Unsupported, match="48,000"):
        bare.run(["true", "x" * 50_000])
    assert ssm.sent == []


def test_a_command_as_the_login_user_is_in_its_home_with_its_groups(ssm: FakeSsm) -> None:
    account = pwd.getpwnam("nobody")
    transport = SsmTransport(ssm, ssm.instance_id, user="nobody", sleep=hurry)
    done = transport.run(["sh", "-c", "id -u; id -g; echo $HOME; echo $USER; umask; echo x >/dev/stderr"])
    assert done.stdout.decode().split() == [
        str(account.pw_uid),
        str(account.pw_gid),
        account.pw_dir,
        "nobody",
        "0022",
    ]
    assert done.stderr == b"x\n"
    as_root = transport.run(["sh", "-c", "id -u; echo $HOME"], as_root=True)
    assert as_root.stdout.decode().split() == ["0", pwd.getpwuid(0).pw_dir]


def test_a_file_belongs_to_the_login_user_who_also_needs_the_right_to_write_it(
    ssm: FakeSsm, tmp_path_factory: pytest.TempPathFactory
) -> None:
    import tempfile

    transport = SsmTransport(ssm, ssm.instance_id, user="nobody", sleep=hurry)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with pytest.raises(MachineError, match="Permission denied"):
            transport.put(b"x", PurePosixPath(folder / "file"))
        os.chown(folder, pwd.getpwnam("nobody").pw_uid, -1)
        transport.put(b"x", PurePosixPath(folder / "new" / "file"))
        assert (folder / "new" / "file").stat().st_uid == pwd.getpwnam("nobody").pw_uid


def test_an_instance_that_ssm_does_not_know_is_unreachable(ssm: FakeSsm) -> None:
    with pytest.raises(Unreachable) as caught:
        SsmTransport(ssm, "i-other", user="root", sleep=hurry).run(["true"])
    assert "instance profile" in caught.value.hint


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("AccessDeniedException", PermissionDenied),
        ("ExpiredTokenException", CredentialsError),
        ("ThrottlingException", Unreachable),
        ("InvalidDocument", ProviderError),
    ],
)
def test_an_api_error_is_the_right_one_of_ours(
    bare: SsmTransport, ssm: FakeSsm, code: str, expected: type[Exception]
) -> None:
    ssm.fail_next.append(client_error("SendCommand", code, "in AWS's words"))
    with pytest.raises(expected, match="in AWS's words"):
        bare.run(["true"])


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (NoCredentialsError(), CredentialsError),
        (EndpointConnectionError(endpoint_url="https://ssm.invalid"), Unreachable),
    ],
)
def test_no_credentials_and_no_network_are_told_apart(
    bare: SsmTransport, ssm: FakeSsm, error: Any, expected: type[Exception]
) -> None:
    ssm.fail_next.append(error)
    with pytest.raises(expected):
        bare.run(["true"])


def test_throttling_while_waiting_is_waited_out(ssm: FakeSsm) -> None:
    transport = SsmTransport(ssm, ssm.instance_id, user="root", sleep=hurry)
    real = ssm.send_command

    def send(**parameters: Any) -> Any:
        sent = real(**parameters)
        ssm.fail_next += [client_error("GetCommandInvocation", "ThrottlingException", "slow down")] * 3
        return sent

    ssm.send_command = send  # type: ignore[method-assign]
    assert transport.run(["echo", "patient"]).stdout == b"patient\n"


def test_a_machine_that_does_not_take_commands_up_is_unreachable_and_the_command_cancelled(
    ssm: FakeSsm,
) -> None:
    clock = [0.0]

    def sleep(seconds: float) -> None:
        clock[0] += seconds

    ssm.deaf = True
    commands = RunCommand(ssm, ssm.instance_id, sleep=sleep, monotonic=lambda: clock[0])
    with pytest.raises(Unreachable, match="does not answer through SSM"):
        commands.ask("drop", {"id": "0" * 32})
    assert ssm.cancelled == [ssm.sent[0]["CommandId"]]
    assert clock[0] < 200


def test_polling_begins_quickly_and_becomes_patient(ssm: FakeSsm) -> None:
    pauses: list[float] = []
    clock = [0.0]

    def sleep(seconds: float) -> None:
        pauses.append(seconds)
        clock[0] += seconds

    ssm.deaf = True
    with pytest.raises(Unreachable):
        RunCommand(ssm, ssm.instance_id, sleep=sleep, monotonic=lambda: clock[0]).ask(
            "drop", {"id": "0" * 32}
        )
    assert pauses[0] <= 0.2
    assert max(pauses) <= 1.0


def test_a_cancelled_command_says_so(ssm: FakeSsm) -> None:
    def sleep(seconds: float) -> None:
        for sent in ssm.sent:
            if sent["CommandId"] not in ssm.cancelled:
                ssm.cancel_command(CommandId=sent["CommandId"], InstanceIds=[ssm.instance_id])

    with pytest.raises(Unreachable, match="Cancelled"):
        RunCommand(ssm, ssm.instance_id, sleep=sleep).ask("drop", {"id": "0" * 32})


def test_a_machine_without_python_is_told_so(bare: SsmTransport, ssm: FakeSsm, tmp_path: Path) -> None:
    ssm.path = str(tmp_path)
    with pytest.raises(MachineError) as caught:
        bare.run(["true"])
    assert caught.value.code == "no-python"


def test_a_timeout_says_so_at_once_and_leaves_no_process(bare: SsmTransport, tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    began = time.monotonic()
    with pytest.raises(CommandTimeout):
        bare.run(
            ["sh", "-c", 'echo $$ >"$1"; exec sleep 300', "sh", str(pid)], timeout=timedelta(seconds=0.5)
        )
    assert time.monotonic() - began < 10
    assert not Path(f"/proc/{pid.read_text().strip()}").exists()


def test_a_command_outlives_the_ssm_agents_own_command(ssm: FakeSsm, tmp_path: Path) -> None:
    """SSM's agent kills what it started when it restarts; ours goes on and is found again."""
    go = tmp_path / "go"
    seen = bytearray()
    killed: list[str] = []

    def on_stdout(data: bytes) -> None:
        seen.extend(data)
        for process in ssm.running():
            process.kill()
            killed.append(str(process.pid))
        go.touch()

    transport = SsmTransport(ssm, ssm.instance_id, user="root", sleep=hurry)
    script = 'echo one; until [ -e "$1" ]; do sleep 0.05; done; echo two'
    code = transport.stream(["sh", "-c", script, "sh", str(go)], on_stdout=on_stdout, on_stderr=on_stdout)
    assert (code, bytes(seen)) == (0, b"one\ntwo\n")


def test_a_supervisor_that_was_killed_is_not_an_end(bare: SsmTransport, tmp_path: Path) -> None:
    """The command kills its own parent, the supervisor."""
    with pytest.raises(Unreachable, match="lost"):
        bare.run(["sh", "-c", "kill -9 $PPID; sleep 0.2"])


def test_the_same_start_twice_runs_the_command_once(ssm: FakeSsm, tmp_path: Path) -> None:
    """As when boto3 repeats a SendCommand whose answer was lost."""
    mark = tmp_path / "mark"
    commands = RunCommand(ssm, ssm.instance_id, sleep=hurry)
    empty = {"size": 0, "sha256": __import__("hashlib").sha256().hexdigest(), "data": "eJwDAAAAAAE="}
    request = {
        "id": os.urandom(16).hex(),
        "argv": ["sh", "-c", 'echo x >>"$1"; sleep 1', "sh", str(mark)],
        "user": "root",
        "root": False,
        "timeout": None,
        "out": 0,
        "err": 0,
        "input": empty,
    }
    first = commands.ask("start", {**request, "wait": 0.1})
    second = commands.ask("start", {**request, "wait": 5}, wait=5)
    assert not first["done"]
    assert not second["done"]
    done = commands.ask("poll", {**request, "wait": 5}, wait=5)
    assert done["done"]
    assert mark.read_text() == "x\n"


def test_old_spools_are_swept_and_young_ones_are_not(bare: SsmTransport) -> None:
    old, young = (ssm_spool.ROOT / (ssm_spool.PREFIX + os.urandom(16).hex()) for _ in range(2))
    old.mkdir()
    young.mkdir()
    long_ago = time.time() - 3 * 86400
    os.utime(old, (long_ago, long_ago))
    try:
        bare.run(["true"])
        assert not old.exists()
        assert young.exists()
    finally:
        young.rmdir()


@pytest.mark.parametrize("name", ["../../etc", "", "0" * 31, "0" * 32 + "/x"])
def test_an_id_cannot_lead_out_of_the_spools(ssm: FakeSsm, name: str) -> None:
    with pytest.raises(MachineError, match="no such id"):
        RunCommand(ssm, ssm.instance_id, sleep=hurry).ask("drop", {"id": name})


@pytest.mark.parametrize("module", [ssm_remote, ssm_spool])
def test_the_remote_program_needs_nothing_of_ours(module: ModuleType) -> None:
    source = Path(str(module.__file__)).read_text()
    imported = re.findall(r"^(?:from|import) ([\w.]+)", source, re.MULTILINE)
    assert {
        name.partition(".")[0] for name in imported if name != ssm_spool.__name__
    } <= sys.stdlib_module_names


def test_a_machine_that_is_a_folder_needs_no_name_for_its_user(ssm: FakeSsm) -> None:
    number = 54321
    with tempfile.TemporaryDirectory(prefix="rt-home") as home:
        os.chown(home, number, number)
        ssm.prefix = ["setpriv", f"--reuid={number}", f"--regid={number}", "--clear-groups"]
        ssm.env = {"HOME": home, ssm_remote.MACHINE_ROOT: home}
        transport = SsmTransport(ssm, ssm.instance_id, user="ec2-user", sleep=hurry)

        transport.put(b"written", PurePosixPath("folder/file"))
        done = transport.run(["sh", "-c", "id -u; pwd; cat folder/file"])

    assert done.exit_code == 0, done.stderr
    assert done.stdout.decode().split("\n") == [str(number), home, "written"]


def test_a_terminal_without_the_plugin_gets_the_fix(
    bare: SsmTransport, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Unsupported) as caught:
        bare.terminal()
    assert "session-manager-working-with-install-plugin" in caught.value.hint


@pytest.mark.parametrize(("version", "by_name"), [("1.2.497.0", False), ("1.2.553.0", True), ("odd", False)])
def test_a_terminal_hands_the_session_to_the_plugin(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, version: str, by_name: bool
) -> None:
    plugin = tmp_path / "session-manager-plugin"
    plugin.write_text(
        f"#!{sys.executable}\nimport sys, os, json\n"
        f"if sys.argv[1:] == ['--version']: sys.exit(print({version!r}))\n"
        f"got = [sys.argv[1:], os.environ.get('AWS_SSM_START_SESSION_RESPONSE')]\n"
        f"open({str(tmp_path / 'got')!r}, 'w').write(json.dumps(got))\n"
        "sys.exit(6)\n"
    )
    plugin.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))

    class Client:
        class meta:  # noqa: N801 - boto3's name
            region_name = "eu-central-1"
            endpoint_url = "https://ssm.example"

        def start_session(self, **parameters: Any) -> dict[str, Any]:
            assert parameters["Parameters"]["command"] == ["sudo -i -u ubuntu -- htop -d '1 0'"]
            return {"SessionId": "s", "TokenValue": "secret", "StreamUrl": "wss://x", "ResponseMetadata": {}}

    code = SsmTransport(Client(), "i-1", user="ubuntu").terminal(["htop", "-d", "1 0"])
    arguments, variable = json.loads((tmp_path / "got").read_text())
    assert code == 6
    assert arguments[1:4] == ["eu-central-1", "StartSession", ""]
    assert arguments[5] == "https://ssm.example"
    assert ("secret" in arguments[0]) is not by_name
    assert (variable is not None and "secret" in variable) is by_name


def test_importing_the_transports_does_not_import_boto3() -> None:
    code = "import runctl.providers.aws.ssm.transport, runctl.transport.agent, sys; print('botocore' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
