"""What to fetch, in which pieces, and what proves it: decisions on plain data."""

from __future__ import annotations

import hashlib
import itertools
import json
import zlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runctl.agent.cloud.checksums import (
    SIZE,
    Check,
    check_for,
    joined_crc32,
    likely_part_sizes,
    of_parts,
    proves,
)
from runctl.agent.cloud.s3 import Object
from runctl.agent.errors import AgentError
from runctl.agent.fill.objects import Wanted, wanted
from runctl.agent.fill.planning import (
    BATCH_BYTES,
    BATCH_FILES,
    SPARE,
    WHOLE,
    Differences,
    Job,
    Local,
    batches,
    differences,
    jobs_of,
    piece_size,
    pieces,
    room_needed,
)
from runctl.agent.fill.record import FILE, Known, Record
from runctl.agent.object_store import Source, parse_source, policy

MIB = 1 << 20
MD5 = hashlib.md5(b"x").hexdigest()


def test_a_source_is_a_bucket_and_a_folder() -> None:
    assert parse_source("s3://bucket") == Source("bucket", "")
    assert parse_source("s3://bucket/a/b/") == Source("bucket", "a/b")
    for wrong in ("bucket/a", "s3:/bucket", "s3://", "s3://UP/a", "s3:///a", "gs://bucket/a", "s3://a"):
        with pytest.raises(ValueError, match="not an S3 address"):
            parse_source(wrong)


names = st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=8)
keys = st.lists(names, min_size=1, max_size=4).map("/".join)


@given(st.lists(keys, min_size=1, max_size=30, unique=True))
def test_what_is_accepted_can_all_be_made_in_one_folder(found: list[str]) -> None:
    try:
        goal = wanted(Source("bucket", "set"), [Object(f"set/{key}", 1, MD5) for key in found])
    except AgentError as error:
        assert error.code == "bad-keys"
        return
    assert set(goal.files) == set(found)
    for path in goal.files:
        parts = path.split("/")
        assert not {"", ".", ".."} & set(parts)
        assert all("/".join(parts[:depth]) not in goal.files for depth in range(1, len(parts)))


@given(st.integers(1, 1 << 40), st.integers(1, 1 << 34))
def test_pieces_cover_everything_once(size: int, each: int) -> None:
    each = max(each, size // 1000 + 1)
    found = list(pieces(size, each))

    assert found[0][0] == 0
    assert found[-1][1] == size
    assert all(end == begin for (_, end), (begin, _) in itertools.pairwise(found))


@given(st.lists(st.integers(0, 3 * WHOLE), max_size=200), st.integers(1, 16))
def test_lots_hold_every_job_once_in_order_and_are_not_too_large(sizes: list[int], workers: int) -> None:
    jobs = [Job(str(number), Object(str(number), size, MD5)) for number, size in enumerate(sizes)]
    lots = list(batches(jobs, workers))

    assert [job for lot in lots for job in lot] == jobs
    for lot in lots:
        assert 1 <= len(lot) <= BATCH_FILES
        assert len(lot) == 1 or sum(job.size for job in lot) <= BATCH_BYTES


@given(st.data())
def test_only_what_lacks_changed_or_was_touched_is_fetched(data: st.DataObject) -> None:
    found = data.draw(
        st.dictionaries(names, st.tuples(st.integers(0, 5), st.sampled_from("ab")), max_size=10)
    )
    known = data.draw(
        st.dictionaries(
            names, st.tuples(st.integers(0, 5), st.sampled_from("ab"), st.integers(0, 2)), max_size=10
        )
    )
    disk = data.draw(st.dictionaries(names, st.tuples(st.integers(0, 5), st.integers(0, 2)), max_size=10))
    goal = Wanted({path: Object(path, size, etag) for path, (size, etag) in found.items()}, ())
    here = {path: Local(size, modified, 0) for path, (size, modified) in disk.items()}
    sources = st.sampled_from(["s3://b", "s3://other", ""])
    before = {
        path: Known(size, etag, modified, "md5", data.draw(sources))
        for path, (size, etag, modified) in known.items()
    }

    plan = differences(goal, before, here.get, "s3://b")

    fetched = {path for path, _ in plan.fetch}
    for path, options in goal.files.items():
        there = (
            path in before
            and path in here
            and before[path].etag == options.etag
            and before[path].size == options.size == here[path].size
            and before[path].modified_ns == here[path].modified_ns
        )
        assert (path in fetched) is not there
    assert plan.same + len(fetched) == len(goal.files)
    assert set(plan.extra) == {path for path in before if before[path].source == "s3://b"} - set(goal.files)
    assert [options.size for _, options in plan.fetch] == sorted(
        (w.size for _, w in plan.fetch), reverse=True
    )


def test_finished_pieces_are_no_jobs() -> None:
    large = Object("large", WHOLE * 3, MD5)
    plan = Differences((("large", large), ("small", Object("small", 1, MD5))), 0, 0, ())

    jobs = jobs_of(plan, {"large": (SIZE, WHOLE)}, {("large", MD5): {0: "x", 2 * WHOLE: "y"}})

    assert [(job.path, job.begin, job.end) for job in jobs] == [("large", WHOLE, 2 * WHOLE), ("small", 0, -1)]
    assert sum(job.size for job in jobs) == WHOLE + 1


@given(st.integers(5 * MIB, 40 * MIB), st.integers(2, 50))
def test_a_large_object_is_cut_as_it_was_put(part: int, parts: int) -> None:
    found = Object("k", part * (parts - 1) + 1, f"{MD5}-{parts}")

    assert piece_size(found, parts, part) == part
    assert -(-found.size // piece_size(found, parts, None)) == parts
    assert all(-(-found.size // size) == parts for size in likely_part_sizes(found.size, parts))


def test_room_counts_what_is_overwritten_but_for_the_largest() -> None:
    plan = Differences((("a", Object("a", 100 * MIB, MD5)), ("b", Object("b", 1, MD5))), 0, 0, ())
    nothing: dict[str, Local] = {}
    old = {"a": Local(0, 0, 80 * MIB), "b": Local(0, 0, 10 * MIB)}

    assert room_needed(plan, nothing.get) == 100 * MIB + 4096 + SPARE
    assert room_needed(plan, old.get) == 90 * MIB + 4096 + SPARE
    assert room_needed(plan, nothing.get, partial=60 * MIB) == 40 * MIB + 4096 + SPARE


@pytest.mark.parametrize(
    ("etag", "headers", "check"),
    [
        (MD5, {}, Check("md5", MD5)),
        (f"{MD5}-3", {}, Check("md5", MD5, 3)),
        (MD5, {"x-amz-server-side-encryption": "AES256"}, Check("md5", MD5)),
        (MD5, {"x-amz-server-side-encryption": "aws:kms"}, SIZE),
        (MD5, {"x-amz-server-side-encryption-customer-algorithm": "AES256"}, SIZE),
        (
            MD5,
            {"x-amz-server-side-encryption": "aws:kms:dsse", "x-amz-checksum-crc32": "jCi/+w=="},
            Check("crc32", "8c28bffb"),
        ),
        (
            "odd",
            {"x-amz-checksum-sha1": "2jmj7l5rSw0yVb/vlWAYkK/YBwk=", "x-amz-checksum-type": "COMPOSITE"},
            SIZE,
        ),
        (
            f"{MD5}-3",
            {"x-amz-checksum-crc32": "jCi/+w==-3", "x-amz-checksum-type": "COMPOSITE"},
            Check("crc32", "8c28bffb", 3),
        ),
        (
            MD5,
            {"x-amz-checksum-crc32": "jCi/+w==", "x-amz-checksum-type": "FULL_OBJECT"},
            Check("crc32", "8c28bffb"),
        ),
        (
            MD5,
            {"x-amz-checksum-crc64nvme": "AAAAAAAAAAA=", "x-amz-checksum-type": "FULL_OBJECT"},
            Check("md5", MD5),
        ),
        (
            "odd",
            {"x-amz-checksum-sha1": "2jmj7l5rSw0yVb/vlWAYkK/YBwk="},
            Check("sha1", hashlib.sha1(b"").hexdigest()),
        ),
    ],
)
def test_the_best_proof_is_chosen(etag: str, headers: dict[str, str], check: Check) -> None:
    assert check_for(etag, headers) == check


def test_the_checksum_of_parts_is_as_s3_computes_it() -> None:
    digests = [hashlib.md5(b"a").hexdigest(), hashlib.md5(b"b").hexdigest()]
    whole = hashlib.md5(bytes.fromhex("".join(digests))).hexdigest()

    assert of_parts("md5", digests) == whole
    stretches = [(digest, 1) for digest in digests]
    assert proves(Check("md5", whole, 2), "md5", stretches)
    assert not proves(Check("md5", whole, 2), "md5", stretches[::-1])
    assert not proves(Check("md5", whole, 2), "crc32", stretches)
    assert not proves(SIZE, "size", stretches)


@given(st.lists(st.binary(max_size=300), max_size=6))
def test_the_crc_of_a_whole_follows_from_those_of_its_stretches(stretches: list[bytes]) -> None:
    parts = [(f"{zlib.crc32(data):08x}", len(data)) for data in stretches]

    assert joined_crc32(parts) == f"{zlib.crc32(b''.join(stretches)):08x}"


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["done", "piece", "forget", "drop"]),
            names,
            st.sampled_from("ab"),
            st.integers(0, 3),
        ),
        max_size=30,
    ),
    st.integers(0, 400),
)
def test_a_record_read_again_says_the_same_and_a_cut_one_nothing_wrong(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, str, str, int]], cut: int
) -> None:
    folder = tmp_path_factory.mktemp("record")
    record = Record(folder, "s3://b")
    record.make_folders()
    for what, path, etag, number in steps:
        if what == "done":
            record.done(path, Known(number, etag, number, "md5"))
        elif what == "piece":
            record.piece(path, etag, number, MD5)
        elif what == "forget":
            record.forget(path)
        else:
            record.drop_pieces(path, etag)
    record.flush()
    second = Record(folder, "s3://b")
    second.load()
    assert (second.files, second.pieces) == (
        record.files,
        {key: value for key, value in record.pieces.items() if value},
    )

    file = folder / ".runctl" / "prewarm.jsonl"
    if file.exists():
        file.write_bytes(file.read_bytes()[:cut])
        short = Record(folder, "s3://b")
        short.load()
        short.done("new", Known(1, "e", 1, "md5"))
        short.flush()
        last = Record(folder, "s3://b")
        last.load()
        assert last.files["new"] == Known(1, "e", 1, "md5", "s3://b")


def test_a_record_knows_from_which_source_each_file_is(tmp_path: Path) -> None:
    def filled(source: str, *paths: str, delete: bool = False, ends: bool = True) -> dict[str, str]:
        record = Record(tmp_path, source)
        record.make_folders()
        record.load()
        for path in paths:
            record.done(path, Known(1, "e", 1, "md5"))
        record.flush()
        if ends:
            record.rewrite(set(paths), delete=delete)
        again = Record(tmp_path, source)
        again.load()
        assert again.files == record.files
        return {path: known.source for path, known in again.files.items()}

    filled("s3://a", "one", "two")
    filled("s3://b", "two", "three", ends=False)
    assert filled("s3://a", "four") == {"one": "s3://a", "two": "s3://b", "three": "s3://b", "four": "s3://a"}
    assert filled("s3://b", "two", delete=True) == {"one": "s3://a", "two": "s3://b", "four": "s3://a"}


def test_of_what_an_older_version_has_filled_the_source_is_not_known(tmp_path: Path) -> None:
    record = Record(tmp_path, "s3://b")
    record.make_folders()
    old = [{"version": 1, "source": "s3://b", "files": 1}, {"p": "a", "s": 1, "e": "e", "m": 1, "c": "md5"}]
    (record.folder / FILE).write_text("".join(json.dumps(line) + "\n" for line in old))

    record.load()

    assert record.files == {"a": Known(1, "e", 1, "md5", "")}


def test_the_policy_reads_the_folder_and_nothing_beside_it() -> None:
    get, listing, decrypt = policy(Source("bucket", "set"), "aws-cn")["Statement"]

    assert get["Resource"] == ["arn:aws-cn:s3:::bucket/set", "arn:aws-cn:s3:::bucket/set/*"]
    assert (get["Action"], listing["Action"], decrypt["Action"]) == (
        "s3:GetObject",
        "s3:ListBucket",
        "kms:Decrypt",
    )
    assert listing["Condition"] == {"StringLike": {"s3:prefix": ["set", "set/*"]}}
    assert decrypt["Condition"]["StringLike"]["kms:ViaService"] == [
        "s3.*.amazonaws.com",
        "s3.*.amazonaws.com.cn",
    ]
    assert policy(Source("bucket"))["Statement"][0]["Resource"] == ["arn:aws:s3:::bucket/*"]
