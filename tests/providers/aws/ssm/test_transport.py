"""Systems Manager's limits and moods."""

from __future__ import annotations

import base64
import os
import pwd
import re
import subprocess
import sys
import tempfile
import zlib
from pathlib import Path, PurePosixPath
from types import ModuleType

import pytest

from runctl.core.errors import (
    MachineError,
    Unsupported,
)
from runctl.providers.aws.ssm import remote as ssm_remote
from runctl.providers.aws.ssm import spool as ssm_spool
from runctl.providers.aws.ssm.transport import SsmTransport
from tests.providers.aws.ssm.server import HURRY, FakeSsm

pytestmark = [pytest.mark.root, pytest.mark.linux]


def test_a_small_command_is_one_command(bare: SsmTransport, ssm: FakeSsm) -> None:
    assert bare.run(["cat"], stdin=b"small").stdout == b"small"
    assert ssm.verbs() == ["start"]


def test_text_that_compresses_needs_one_command_although_it_is_long(bare: SsmTransport, ssm: FakeSsm) -> None:
    done = bare.run(["seq", "20000"])
    assert done.stdout == b"".join(b"%d\n" % n for n in range(1, 20001))
    assert len(done.stdout) > 100_000
    assert ssm.verbs().count("start") == 1
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
    assert ssm.verbs()[:4] == ["append"] * 4


def test_a_machine_that_is_a_folder_keeps_its_own_environment(ssm: FakeSsm, tmp_path: Path) -> None:
    ssm.env = {
        "RUNCTL_MACHINE_ROOT": str(tmp_path),
        "RUNCTL_AGENT_STATE": f"{tmp_path}/state",
        "HOME": str(tmp_path),
    }
    transport = SsmTransport(ssm, ssm.instance_id, user="no-such-user", clock=HURRY)
    done = transport.run(["sh", "-c", "pwd; echo $HOME $RUNCTL_AGENT_STATE; id -u"])
    assert done.stdout.decode().split() == [
        str(tmp_path),
        str(tmp_path),
        f"{tmp_path}/state",
        str(os.getuid()),
    ]
    transport.put(b"x", PurePosixPath("below home"))
    assert (tmp_path / "below home").read_bytes() == b"x"


def test_braces_do_not_become_parameters_of_the_document(bare: SsmTransport) -> None:
    argv = ["{{ssm:secret}}", "{{{x}}}", "{{", "}}", "{%raw%}"]
    assert bare.run(["printf", "%s\\n", *argv]).stdout.decode().split("\n")[:-1] == argv


def test_what_is_sent_cannot_be_seen_in_the_process_list(bare: SsmTransport, ssm: FakeSsm) -> None:
    secret = os.urandom(300)
    script = "cat >/dev/null; for f in /proc/[0-9]*/cmdline; do cat $f 2>/dev/null; done; true"
    done = bare.run(["sh", "-c", script], stdin=secret)
    sent = ssm.requests()[0]["input"]["data"].encode()
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
    transport = SsmTransport(ssm, ssm.instance_id, user="nobody", clock=HURRY)
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

    transport = SsmTransport(ssm, ssm.instance_id, user="nobody", clock=HURRY)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with pytest.raises(MachineError, match="Permission denied"):
            transport.put(b"x", PurePosixPath(folder / "file"))
        os.chown(folder, pwd.getpwnam("nobody").pw_uid, -1)
        transport.put(b"x", PurePosixPath(folder / "new" / "file"))
        assert (folder / "new" / "file").stat().st_uid == pwd.getpwnam("nobody").pw_uid


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
        transport = SsmTransport(ssm, ssm.instance_id, user="ec2-user", clock=HURRY)

        transport.put(b"written", PurePosixPath("folder/file"))
        done = transport.run(["sh", "-c", "id -u; pwd; cat folder/file"])

    assert done.exit_code == 0, done.stderr
    assert done.stdout.decode().split("\n") == [str(number), home, "written"]


def test_importing_the_transports_does_not_import_boto3() -> None:
    code = "import runctl.providers.aws.ssm.transport, runctl.transport.agent, sys; print('botocore' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
