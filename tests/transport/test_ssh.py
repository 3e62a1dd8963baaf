"""SSH against a real sshd: connections, keys, and what goes wrong with them."""

from __future__ import annotations

import contextlib
import io
import os
import shlex
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path, PurePosixPath

import pytest

from runctl.core.errors import (
    CredentialsError,
    HostKeyChanged,
    HostKeyUnknown,
    MachineError,
    Unreachable,
    Unsupported,
)
from runctl.testing.sshd import Sshd, free_port, keygen, running
from runctl.transport.interface import PortForward
from runctl.transport.ssh import SshTransport
from runctl.transport.ssh_connection import SshTarget, one_time_key, private_directory, public_key
from runctl.transport.ssh_failure import SshHints

pytestmark = [pytest.mark.sshd, pytest.mark.root, pytest.mark.linux]
Connect = Callable[..., SshTransport]


def masters(sshd: Sshd) -> list[int]:
    """The server's processes that hold a connection."""
    children = Path(f"/proc/{sshd.pid}/task/{sshd.pid}/children").read_text().split()
    return [int(pid) for pid in children]


def wait_until(condition: Callable[[], bool], seconds: float = 15) -> None:
    limit = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < limit, "it did not happen in time"
        time.sleep(0.02)


@pytest.fixture
def own_sshd(tmp_path: Path) -> Iterator[Sshd]:
    """A server that a test may harm."""
    with running(tmp_path / "sshd") as server:
        yield server


def test_many_commands_share_one_connection(own_sshd: Sshd, connect: Connect) -> None:
    transport = connect(own_sshd)
    for _ in range(3):
        transport.run(["true"])
    assert own_sshd.log_text().count("Accepted publickey") == 1


def test_another_transport_with_the_same_values_shares_it_too(own_sshd: Sshd, connect: Connect) -> None:
    connect(own_sshd).run(["true"])
    connect(own_sshd).run(["true"])
    assert own_sshd.log_text().count("Accepted publickey") == 1


def test_close_ends_an_idle_connection(own_sshd: Sshd, connect: Connect, runtime_dir: Path) -> None:
    transport = connect(own_sshd)
    transport.run(["true"])
    transport.close()
    wait_until(lambda: not masters(own_sshd))
    assert [path for path in runtime_dir.iterdir() if path.is_socket() or path.suffix == ".log"] == []


def test_close_does_not_cut_anybody_off(own_sshd: Sshd, connect: Connect, tmp_path: Path) -> None:
    mine, theirs = connect(own_sshd), connect(own_sshd)
    began, go = tmp_path / "began", tmp_path / "go"
    script = 'touch "$1"; until [ -e "$2" ]; do sleep 0.05; done; echo whole'
    with ThreadPoolExecutor(1) as pool:
        running_command = pool.submit(theirs.run, ["sh", "-c", script, "sh", str(began), str(go)])
        wait_until(began.exists)
        mine.close()
        go.touch()
        assert running_command.result().stdout == b"whole\n"
    wait_until(lambda: not masters(own_sshd))


def test_more_commands_than_a_connection_takes_get_another_one(tmp_path: Path, connect: Connect) -> None:
    with running(tmp_path / "sshd", settings="MaxSessions 2\nMaxStartups 100") as server:
        transport = connect(server)
        with ThreadPoolExecutor(7) as pool:
            outputs = list(
                pool.map(lambda n: transport.run(["sh", "-c", f"sleep 1; echo {n}"]).stdout, range(7))
            )
        assert outputs == [f"{n}\n".encode() for n in range(7)]
        assert server.log_text().count("Accepted publickey") >= 3


def test_a_connection_that_died_between_commands_is_made_again(own_sshd: Sshd, connect: Connect) -> None:
    transport = connect(own_sshd)
    transport.run(["true"])
    for pid in masters(own_sshd):
        os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not masters(own_sshd))
    assert transport.run(["echo", "back"]).stdout == b"back\n"


def test_a_connection_that_breaks_in_the_middle_is_unreachable(own_sshd: Sshd, connect: Connect) -> None:
    transport = connect(own_sshd)
    began = threading.Event()

    def kill() -> None:
        began.wait(15)
        for pid in masters(own_sshd):
            os.kill(pid, signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    seen = bytearray()

    def on_stdout(data: bytes) -> None:
        seen.extend(data)
        began.set()

    with pytest.raises(Unreachable, match="broke"):
        transport.stream(
            ["sh", "-c", "echo half; exec timeout 20 sleep 20"], on_stdout=on_stdout, on_stderr=lambda _: None
        )
    killer.join()
    assert bytes(seen) == b"half\n"


def test_a_file_whose_transfer_breaks_leaves_the_old_one(
    own_sshd: Sshd, connect: Connect, tmp_path: Path
) -> None:
    class Fatal(io.BytesIO):
        """The connection dies when half of it has been read."""

        def read1(self, size: int | None = -1, /) -> bytes:
            if self.tell() >= 4_000_000:
                for pid in masters(own_sshd):
                    os.kill(pid, signal.SIGKILL)
            return super().read1(size)

    folder = tmp_path / "target"
    folder.mkdir()
    (folder / "file").write_bytes(b"old")
    transport = connect(own_sshd)
    with pytest.raises(Unreachable):
        transport.put(Fatal(bytes(8_000_000)), PurePosixPath(folder / "file"))
    wait_until(lambda: list(folder.iterdir()) == [folder / "file"])
    assert (folder / "file").read_bytes() == b"old"


def test_a_command_that_ends_with_255_is_not_a_broken_connection(sshd: Sshd, connect: Connect) -> None:
    done = connect(sshd).run(["sh", "-c", "echo 'Permission denied (publickey).' >&2; exit 255"])
    assert (done.exit_code, done.stderr) == (255, b"Permission denied (publickey).\n")


def test_what_login_files_print_is_not_the_commands_output(tmp_path: Path, connect: Connect) -> None:
    noisy = tmp_path / "noisy"
    noisy.write_text('#!/bin/sh\necho hello; echo careful >&2\nexec sh -c "$SSH_ORIGINAL_COMMAND"\n')
    noisy.chmod(0o755)
    with running(tmp_path / "sshd", settings=f"ForceCommand {noisy}") as server:
        done = connect(server).run(["sh", "-c", "echo out; echo err >&2"])
    assert (done.stdout, done.stderr) == (b"out\n", b"err\n")


def test_a_login_shell_that_runs_nothing_is_unreachable(tmp_path: Path, connect: Connect) -> None:
    with running(tmp_path / "sshd", settings="ForceCommand /bin/false") as server, pytest.raises(Unreachable):
        connect(server).run(["true"])


def test_a_closed_port_is_unreachable(sshd: Sshd, runtime_dir: Path) -> None:
    transport = SshTransport(
        SshTarget("127.0.0.1", "root", "i-1", free_port()),
        runtime_dir=runtime_dir,
        known_hosts=runtime_dir / "known_hosts",
        hints=SshHints(unreachable="ask who rents it out"),
        identity=sshd.identity,
    )
    with pytest.raises(Unreachable, match="Connection refused") as caught:
        transport.run(["true"])
    assert not isinstance(caught.value, HostKeyChanged)
    assert caught.value.hint == "ask who rents it out"


def test_a_server_that_says_nothing_is_unreachable_in_time(sshd: Sshd, runtime_dir: Path) -> None:
    import socket

    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        transport = SshTransport(
            SshTarget("127.0.0.1", "root", "i-1", silent.getsockname()[1]),
            runtime_dir=runtime_dir,
            known_hosts=runtime_dir / "known_hosts",
            identity=sshd.identity,
            connect_timeout=timedelta(seconds=1),
        )
        with pytest.raises(Unreachable):
            transport.run(["true"])


def test_a_refused_key_is_a_matter_of_credentials(sshd: Sshd, connect: Connect, tmp_path: Path) -> None:
    with pytest.raises(CredentialsError, match="Permission denied") as caught:
        connect(sshd, identity=keygen(tmp_path / "stranger")).run(["true"])
    assert "stranger" in caught.value.hint


def test_a_key_file_that_is_not_there_is_named(sshd: Sshd, connect: Connect, tmp_path: Path) -> None:
    with pytest.raises(CredentialsError, match=r"nothing\.pem"):
        connect(sshd, identity=tmp_path / "nothing.pem").run(["true"])


def test_a_key_file_that_others_may_read_gets_the_fix(sshd: Sshd, connect: Connect) -> None:
    sloppy = sshd.identity.with_name("sloppy")
    sloppy.write_bytes(sshd.identity.read_bytes())
    sloppy.chmod(0o644)
    with pytest.raises(CredentialsError) as caught:
        connect(sshd, identity=sloppy).run(["true"])
    assert caught.value.hint == f"chmod 600 {sloppy}"


def test_a_key_is_authorised_before_each_new_connection(
    own_sshd: Sshd, connect: Connect, tmp_path: Path
) -> None:
    key = one_time_key(tmp_path / "state")
    asked: list[str] = []

    def authorize(public: str) -> None:
        asked.append(public)
        own_sshd.authorized_keys.write_text(public + "\n")

    transport = connect(own_sshd, identity=key, authorize=authorize)
    transport.run(["true"])
    transport.run(["true"])
    assert asked == [key.with_suffix(".pub").read_text().strip()]
    own_sshd.authorized_keys.write_text("")
    transport.run(["true"])
    transport.close()
    transport.run(["true"])
    assert len(asked) == 2


def test_the_key_of_our_own_is_made_once_and_is_private(tmp_path: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        keys = set(pool.map(lambda _: one_time_key(tmp_path / "state").read_text(), range(4)))
    key = one_time_key(tmp_path / "state")
    assert keys == {key.read_text()}
    assert key.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in (tmp_path / "state").iterdir()] == ["ssh-key"]


def test_a_computer_without_ssh_keygen_is_told_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    for ask in (lambda: one_time_key(tmp_path / "state"), lambda: public_key(tmp_path / "key")):
        with pytest.raises(Unsupported, match="ssh-keygen is not installed on this computer") as caught:
            ask()
        assert caught.value.hint == "install OpenSSH's client"
    assert list((tmp_path / "state").iterdir()) == []


def test_the_first_host_key_is_recorded(sshd: Sshd, connect: Connect, runtime_dir: Path) -> None:
    connect(sshd).run(["true"])
    recorded = (runtime_dir / "known hosts").read_text()
    assert sshd.host_keys[0].rsplit(" ", 1)[0] in recorded
    assert recorded.startswith("i-0123456789abcdef0 ")


def test_another_host_key_is_refused_and_the_hint_really_helps(
    sshd: Sshd, connect: Connect, tmp_path: Path
) -> None:
    connect(sshd).run(["true"])
    with running(tmp_path / "sshd", identity=sshd.identity) as other:
        transport = connect(other)
        with pytest.raises(HostKeyChanged) as caught:
            transport.run(["true"])
        command = shlex.split(caught.value.hint.partition(": ")[2])
        subprocess.run(command, check=True, capture_output=True)
        assert transport.run(["echo", "new"]).stdout == b"new\n"


def test_host_keys_from_a_trusted_source_are_required_from_the_first_connection(
    sshd: Sshd, connect: Connect, tmp_path: Path
) -> None:
    connect(sshd, host_keys=lambda: sshd.host_keys).run(["true"])
    stranger = keygen(tmp_path / "host").with_suffix(".pub").read_text()
    with pytest.raises(HostKeyChanged):
        connect(sshd, alias="i-2", host_keys=lambda: [stranger]).run(["true"])


def test_a_first_key_that_nothing_vouches_for_is_told_once_or_refused(sshd: Sshd, connect: Connect) -> None:
    told: list[str] = []
    with pytest.raises(HostKeyUnknown, match="nothing vouches for the host key of i-3"):
        connect(sshd, alias="i-3", host_keys=list, strict_host_key=True, on_first_key=told.append).run(
            ["true"]
        )
    assert told == []
    connect(sshd, alias="i-3", host_keys=list, on_first_key=told.append).run(["true"])
    shown = subprocess.run(
        ["ssh-keygen", "-lf", str(sshd.host_key.with_suffix(".pub"))],
        capture_output=True,
        text=True,
        check=True,
    )
    assert told == [shown.stdout.split()[1]]
    # It is recorded: from now on it is the key that is required.
    connect(sshd, alias="i-3", strict_host_key=True, on_first_key=told.append).run(["true"])
    assert len(told) == 1


def test_a_source_that_knows_no_host_key_yet_falls_back_to_the_first_one(
    sshd: Sshd, connect: Connect
) -> None:
    assert connect(sshd, host_keys=list).run(["echo", "in"]).stdout == b"in\n"


def test_the_users_own_configuration_is_not_read(
    sshd: Sshd, connect: Connect, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".ssh").mkdir(mode=0o700)
    (tmp_path / ".ssh" / "config").write_text("Host *\n  ProxyCommand false\n  User nobody\n")
    assert connect(sshd).run(["id", "-un"]).stdout.decode().strip() == sshd.user


def test_a_machine_behind_another_is_reached_through_it(
    own_sshd: Sshd, runtime_dir: Path, tmp_path: Path
) -> None:
    through = [
        *("ssh", "-F", "none", "-i", str(own_sshd.identity), "-p", str(own_sshd.port)),
        *("-o", "StrictHostKeyChecking=no", "-o", f"UserKnownHostsFile={tmp_path / 'jump'}"),
        *("-W", f"127.0.0.1:{own_sshd.port}", f"{own_sshd.user}@127.0.0.1"),
    ]
    transport = SshTransport(
        SshTarget("inner.invalid", own_sshd.user, "inner", proxy_command=shlex.join(through)),
        runtime_dir=runtime_dir,
        known_hosts=tmp_path / "known hosts",
        identity=own_sshd.identity,
    )
    try:
        assert transport.run(["echo", "inner"]).stdout == b"inner\n"
    finally:
        transport.close()
    assert own_sshd.log_text().count("Accepted publickey") == 2


def test_a_runtime_folder_with_a_long_name_does_not_matter(
    sshd: Sshd, tmp_path: Path, runtime_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(runtime_dir))
    long = tmp_path / ("x" * 90)
    transport = SshTransport(
        SshTarget("127.0.0.1", sshd.user, f"i-{os.getpid()}", sshd.port),
        runtime_dir=long,
        known_hosts=tmp_path / "100%" / "known hosts",
        identity=sshd.identity,
    )
    try:
        assert transport.run(["echo", "short"]).stdout == b"short\n"
    finally:
        transport.close()


def test_somebody_elses_runtime_folder_is_not_used(tmp_path: Path) -> None:
    folder = tmp_path / "theirs"
    folder.mkdir()
    os.chown(folder, 12345, 12345)
    with pytest.raises(Unsupported, match="somebody else"):
        private_directory(folder)


def test_stdin_that_cannot_be_read_twice_survives_a_refused_session(tmp_path: Path, connect: Connect) -> None:
    with running(tmp_path / "sshd", settings="MaxSessions 1") as server:
        transport = connect(server)
        busy = threading.Thread(target=lambda: transport.run(["sleep", "2"]))
        transport.run(["true"])
        busy.start()
        wait_until(lambda: b"sleep" in b"".join(_command_lines(masters(server))))
        read, write = os.pipe()
        os.write(write, b"once only")
        os.close(write)
        out = bytearray()
        with os.fdopen(read, "rb") as source:
            transport.stream(["cat"], stdin=source, on_stdout=out.extend, on_stderr=lambda _: None)
        busy.join()
    assert bytes(out) == b"once only"


def _command_lines(roots: list[int]) -> Iterator[bytes]:
    todo = list(roots)
    while todo:
        pid = todo.pop()
        with contextlib.suppress(FileNotFoundError):
            yield Path(f"/proc/{pid}/cmdline").read_bytes()
            todo += map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())


def test_put_and_get_work_over_a_relative_path(sshd: Sshd, connect: Connect) -> None:
    transport = connect(sshd)
    name = f".runctl-test-{os.getpid()}"
    target = Path.home() / name
    try:
        transport.put(b"here", PurePosixPath(name))
        sink = io.BytesIO()
        transport.get(PurePosixPath(name), sink)
        assert (sink.getvalue(), target.read_bytes()) == (b"here", b"here")
    finally:
        target.unlink(missing_ok=True)


def test_a_terminal_gives_the_programs_exit_code(sshd: Sshd, connect: Connect) -> None:
    """In a process of its own, because it takes the terminal that a test does not have."""
    transport = connect(sshd)
    transport.run(["true"])
    assert transport.terminal(["sh", "-c", "exit 7"]) == 7


def test_a_port_here_leads_to_the_machine_while_it_is_forwarded(sshd: Sshd, connect: Connect) -> None:
    transport = connect(sshd)
    with socket.create_server(("127.0.0.1", 0)) as there, socket.create_server(("127.0.0.1", 0)) as taken:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        forward = PortForward(port, "127.0.0.1", there.getsockname()[1])
        with transport.forwarding([forward]):
            socket.create_connection(("127.0.0.1", port), 10).close()
        with pytest.raises(OSError, match="refused"):
            socket.create_connection(("127.0.0.1", port), 10)
        used = PortForward(taken.getsockname()[1], "127.0.0.1", forward.host_port)
        with pytest.raises(MachineError, match="cannot be forwarded"), transport.forwarding([used]):
            pass


def test_the_connection_survives_ctrl_c(sshd: Sshd, connect: Connect, runtime_dir: Path) -> None:
    transport = connect(sshd)
    transport.run(["true"])
    found = subprocess.run(
        ["pgrep", "-f", str(runtime_dir)], capture_output=True, text=True, check=True
    ).stdout.split()
    assert all(os.getpgid(int(pid)) != os.getpgid(0) for pid in found)
