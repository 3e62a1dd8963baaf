"""A lease in S3 and in a folder: replaced only if it is what was read, and as old as the store says."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from runctl.agent.checkpoint_spec import StoreSpec
from runctl.agent.checkpoints.lease_stores import open_lease
from runctl.agent.cloud.s3 import S3, Refusal
from runctl.agent.errors import AgentError
from runctl.agent.lease import KEY, Claim, Found, Lease, LeaseStore, encode
from tests.agent.s3_bucket import Bucket

RUN = "run-1"
OpenLease = Callable[[], LeaseStore]


@pytest.fixture(params=["s3", "folder"])
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[OpenLease]:
    url, variables = str(tmp_path), dict[str, str]()
    if request.param == "s3":
        bucket: Bucket = request.getfixturevalue("bucket")
        url, variables = f"s3://{bucket.name}/runs", bucket.account
    with contextlib.ExitStack() as closing:

        def lease() -> LeaseStore:
            return closing.enter_context(contextlib.closing(open_lease(StoreSpec(url), RUN, variables)))

        yield lease


def test_a_lease_is_replaced_only_if_it_is_what_was_read(opened: OpenLease) -> None:
    first, second = opened(), opened()
    assert first.read() == Found()
    made = first.write(encode(Lease(RUN, 1, write="a")), "")
    assert made
    assert second.write(encode(Lease(RUN, 1, write="b")), "") is None
    found = second.read()
    assert (found.lease, found.etag) == (Lease(RUN, 1, write="a"), made)
    assert 0 <= found.age < 60
    changed = second.write(encode(Lease(RUN, 2, write="c")), made)
    assert changed not in {None, made}
    assert first.write(encode(Lease(RUN, 3, write="d")), made) is None
    assert first.read().lease == Lease(RUN, 2, write="c")


def test_one_that_is_gone_is_not_replaced(opened: OpenLease) -> None:
    assert opened().write(encode(Lease(RUN)), "0" * 32) is None


def test_of_many_who_take_it_at_once_one_has_it(opened: OpenLease) -> None:
    claims = [Claim(opened(), RUN, f"i-{number}") for number in range(8)]
    with ThreadPoolExecutor(8) as pool:
        refused = list(pool.map(Claim.take, claims))
    (taken,) = [claim for claim, why in zip(claims, refused, strict=True) if why is None]
    assert [claim for claim in claims if claim.holds] == [taken]
    assert taken.begin_attempt() == 1


def test_what_somebody_else_has_written_there_is_told(bucket: Bucket) -> None:
    bucket.put(f"runs/{RUN}/{KEY}", b"{}")
    store = open_lease(StoreSpec(f"s3://{bucket.name}/runs"), RUN, bucket.account)
    with contextlib.closing(store), pytest.raises(AgentError, match="is not a lease") as raised:
        store.read()
    assert raised.value.code == "store-corrupt"


@pytest.mark.parametrize(
    ("etag", "refusal", "expected"),
    [
        ("e", Refusal(412, "PreconditionFailed", ""), None),
        # Another write was going on at the same moment.
        ("e", Refusal(409, "ConditionalRequestConflict", ""), None),
        ("e", Refusal(404, "NoSuchKey", ""), None),
        ("e", Refusal(403, "AccessDenied", ""), "store-denied"),
        ("", Refusal(404, "NoSuchBucket", ""), "store-denied"),
    ],
)
def test_only_a_lost_race_is_no_error(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch, etag: str, refusal: Refusal, expected: str | None
) -> None:
    def refuse(*_: object, **__: object) -> str:
        raise refusal

    monkeypatch.setattr(S3, "put", refuse)
    with contextlib.closing(open_lease(StoreSpec(f"s3://{bucket.name}/runs"), RUN, bucket.account)) as lease:
        if expected is None:
            assert lease.write(b"{}", etag) is None
            return
        with pytest.raises(AgentError) as error:
            lease.write(b"{}", etag)
        assert error.value.code == expected
