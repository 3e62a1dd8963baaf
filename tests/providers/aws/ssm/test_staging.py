"""Large pieces and secrets go through a store beside Systems Manager."""

from __future__ import annotations

import os
import zlib
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import Any

import pytest

from runctl.core.errors import (
    MachineError,
    PermissionDenied,
    Unreachable,
)
from runctl.core.progress import Silent
from runctl.providers.aws.ssm.transport import SsmTransport
from runctl.testing.clock import ManualClock
from runctl.testing.progress import RecordedProgress
from tests.providers.aws.ssm.server import HURRY, FakeSsm, FolderStaging

pytestmark = [pytest.mark.root, pytest.mark.linux]


def test_large_pieces_go_through_the_staging_store_and_do_not_stay_there(
    staged: SsmTransport, ssm: FakeSsm, store: FolderStaging
) -> None:
    noise = os.urandom(2_000_000)
    assert staged.run(["cat"], stdin=noise).stdout == noise
    assert ssm.verbs() == ["start", "upload", "drop"]
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
    assert all("data" not in request["input"] for request in ssm.requests() if request["op"] == "start")
    assert bytes(seen) == b"x"
    assert [path for path in store.folder.rglob("*") if path.is_file()] == []


class SlowSsm(FakeSsm):
    """Its machine needs 90 seconds of the clock for whatever it is to start, as one that fetches a large input."""

    clock = ManualClock()

    def get_command_invocation(self, *, CommandId: str, InstanceId: str) -> dict[str, Any]:  # noqa: N803
        started = self.requests()[-1]["op"] == "start"
        if started and self.clock.monotonic() - self.began < 90:
            return self._invocation("InProgress", "InProgress", -1)
        self._processes[CommandId].wait()
        return super().get_command_invocation(CommandId=CommandId, InstanceId=InstanceId)

    def send_command(self, **parameters: Any) -> dict[str, Any]:
        self.began = self.clock.monotonic()
        return super().send_command(**parameters)


def test_a_machine_that_fetches_a_large_input_for_long_is_waited_for(
    tmp_path: Path, store: FolderStaging
) -> None:
    server = SlowSsm(tmp_path)
    transport = SsmTransport(server, server.instance_id, user="root", staging=store, clock=server.clock)
    noise = os.urandom(60_000)
    try:
        assert transport.run(["wc", "-c"], stdin=noise).stdout.split() == [b"60000"]
        assert transport.run(["wc", "-c"], stdin=b"secret", private=True).stdout.split() == [b"6"]
        assert server.cancelled == []
        # One that has nothing to fetch is not.
        with pytest.raises(Unreachable, match="InProgress"):
            transport.run(["true"])
    finally:
        server.close()


def test_a_store_that_the_machine_cannot_reach_is_done_without(ssm: FakeSsm, store: FolderStaging) -> None:
    class Apart(FolderStaging):
        def get_url(self, key: str) -> str:
            return "http://127.0.0.1:9/" + key

    progress = RecordedProgress()
    apart = Apart(store.folder, store.url)
    transport = SsmTransport(ssm, ssm.instance_id, user="root", staging=apart, progress=progress, clock=HURRY)

    assert transport.run(["cat"], stdin=b"once", private=True).stdout == b"once"
    assert any("30 days" in warning for warning in progress.warnings)


def test_without_a_store_a_private_input_passes_with_a_warning(ssm: FakeSsm) -> None:
    class Warnings(Silent):
        said = ""

        def warn(self, message: str) -> None:
            self.said += message

    warnings = Warnings()
    transport = SsmTransport(ssm, ssm.instance_id, user="root", progress=warnings, clock=HURRY)
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
        clock=HURRY,
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

    transport = SsmTransport(ssm, ssm.instance_id, user="root", staging=Denied(), clock=HURRY)
    noise = os.urandom(120_000)
    assert transport.run(["cat"], stdin=noise).stdout == noise


def test_what_the_store_spoils_is_noticed(ssm: FakeSsm, store: FolderStaging, tmp_path: Path) -> None:
    class Spoiling(FolderStaging):
        def write(self, key: str, source: Any) -> None:
            super().write(key, source)
            (self.folder / key).write_bytes(zlib.compress(b"something else"))

    transport = SsmTransport(
        ssm, ssm.instance_id, user="root", staging=Spoiling(store.folder, store.url), clock=HURRY
    )
    target = tmp_path / "target"
    with pytest.raises(MachineError) as caught:
        transport.put(os.urandom(100_000), PurePosixPath(target))
    assert caught.value.code == "integrity"
    assert not target.exists()
