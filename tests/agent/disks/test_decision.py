"""What happens to a disk, as a table: formatted only if provably blank."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runctl.agent.disks.decision import (
    INSTANCE_STORE,
    PROBES,
    Examine,
    Facts,
    Format,
    Mount,
    Partition,
    Refuse,
    Signature,
    decide_format,
)
from runctl.agent.disks.interface import from_link, volume_id
from runctl.agent.disks.mount_table import fstab_line, parse, point_of, with_line, without_volume
from runctl.agent.errors import AgentError

GIB = 1 << 30
UNREAD = Facts("/dev/nvme1n1", True, GIB, (None,) * PROBES)
BLANK = dataclasses.replace(UNREAD, zero_bytes=GIB)
EXT4 = Signature("ext4", "filesystem", uuid="u")


def having(signature: Signature) -> Facts:
    return dataclasses.replace(BLANK, signatures=(signature, signature), zeroed=False)


def test_a_blank_disk_that_its_owner_offered_is_formatted() -> None:
    assert decide_format(BLANK, "if-blank", "xfs") == Format("/dev/nvme1n1", "xfs")


@pytest.mark.parametrize("zero_bytes", [0, GIB - 1])
def test_a_disk_that_was_not_read_to_its_end_is_read_before_it_is_formatted(zero_bytes: int) -> None:
    partly = dataclasses.replace(UNREAD, zero_bytes=zero_bytes)

    assert decide_format(partly, "if-blank", "ext4") == Examine("/dev/nvme1n1")


def test_the_providers_word_spares_the_reading_but_not_the_looking() -> None:
    assert isinstance(decide_format(UNREAD, "if-blank", "ext4", known_blank=True), Format)
    for seen in (dataclasses.replace(UNREAD, zeroed=False), having(Signature("swap", "other"))):
        assert isinstance(decide_format(seen, "if-blank", "ext4", known_blank=True), Refuse)
    assert isinstance(decide_format(UNREAD, "never", "ext4", known_blank=True), Refuse)


def test_a_file_system_is_mounted_whatever_was_wished() -> None:
    for options in ("if-blank", "never"):
        assert decide_format(having(EXT4), options, "xfs") == Mount("/dev/nvme1n1", "ext4", "u")


@pytest.mark.parametrize(
    ("facts", "code"),
    [
        (dataclasses.replace(BLANK, is_block_device=False), "no-device"),
        (dataclasses.replace(BLANK, size_bytes=0), "no-device"),
        (dataclasses.replace(BLANK, is_system_disk=True), "not-blank"),
        (dataclasses.replace(BLANK, model=INSTANCE_STORE), "not-blank"),
        (dataclasses.replace(BLANK, in_use=True), "disk-busy"),
        (dataclasses.replace(BLANK, readable=False), "no-device"),
        (dataclasses.replace(BLANK, zeroed=False), "not-blank"),
        (dataclasses.replace(BLANK, signatures=(None,) * (PROBES - 1)), "no-device"),
        (dataclasses.replace(BLANK, signatures=(None, None, None, EXT4)), "not-blank"),
        (dataclasses.replace(BLANK, signatures=(EXT4, Signature("xfs", "filesystem"))), "not-blank"),
        (dataclasses.replace(BLANK, read_only=True), "cannot-mount"),
        (having(Signature("LVM2_member", "raid")), "not-blank"),
        (having(Signature("crypto_LUKS", "crypto")), "not-blank"),
        (having(Signature("swap", "other")), "not-blank"),
        (having(Signature(ambivalent=True)), "not-blank"),
        (having(Signature(table="gpt")), "not-blank"),
        (dataclasses.replace(BLANK, partitions=(Partition("/dev/nvme1n1p1", GIB, None),)), "not-blank"),
        (
            dataclasses.replace(BLANK, partitions=(Partition("p1", GIB, EXT4), Partition("p2", GIB, EXT4))),
            "not-blank",
        ),
    ],
)
def test_everything_else_is_left_alone(facts: Facts, code: str) -> None:
    decision = decide_format(facts, "if-blank", "ext4")
    assert isinstance(decision, Refuse)
    assert decision.code == code


@pytest.mark.parametrize(
    "facts",
    [
        dataclasses.replace(BLANK, is_system_disk=True),
        dataclasses.replace(BLANK, model=INSTANCE_STORE),
        dataclasses.replace(BLANK, in_use=True),
    ],
)
def test_force_does_not_reach_the_systems_disk_nor_one_in_use(facts: Facts) -> None:
    assert isinstance(decide_format(facts, "force", "ext4"), Refuse)


def test_a_volume_that_somebody_brought_is_not_formatted() -> None:
    decision = decide_format(BLANK, "never", "ext4")
    assert isinstance(decision, Refuse)
    assert (decision.code, "--format" in decision.hint) == ("blank", True)


signatures = st.none() | st.builds(
    Signature,
    type=st.sampled_from(["", "ext4", "xfs", "swap", "LVM2_member"]),
    usage=st.sampled_from(["", "filesystem", "raid", "crypto", "other"]),
    table=st.sampled_from(["", "gpt", "dos"]),
    ambivalent=st.booleans(),
)
anything = st.builds(
    Facts,
    device=st.just("/dev/x"),
    is_block_device=st.booleans(),
    size_bytes=st.integers(0, GIB),
    signatures=st.lists(signatures, max_size=6).map(tuple),
    readable=st.booleans(),
    zeroed=st.booleans(),
    zero_bytes=st.integers(0, GIB),
    model=st.sampled_from(["", INSTANCE_STORE, "Amazon Elastic Block Store"]),
    is_system_disk=st.booleans(),
    read_only=st.booleans(),
    in_use=st.booleans(),
    partitions=st.lists(st.builds(Partition, st.just("/dev/x1"), st.just(GIB), signatures), max_size=3).map(
        tuple
    ),
)


@given(facts=anything, options=st.sampled_from(["if-blank", "never"]), known_blank=st.booleans())
def test_whatever_is_seen_only_a_blank_and_offered_disk_is_formatted(
    facts: Facts, options: str, known_blank: bool
) -> None:
    if isinstance(decide_format(facts, options, "ext4", known_blank=known_blank), Format):
        assert options == "if-blank"
        assert known_blank or facts.zero_bytes >= facts.size_bytes
        assert len(facts.signatures) >= PROBES
        assert all(signature is None for signature in facts.signatures)
        assert facts.zeroed
        assert facts.readable
        assert not facts.partitions
        assert not facts.is_system_disk
        assert not facts.in_use
        assert facts.model != INSTANCE_STORE


@pytest.mark.parametrize(
    ("name", "volume"),
    [
        ("nvme-Amazon_Elastic_Block_Store_vol0123456789abcdef0", "vol-0123456789abcdef0"),
        ("nvme-Amazon_Elastic_Block_Store_vol0123456789abcdef0-ns-1", "vol-0123456789abcdef0"),
        ("nvme-Amazon_Elastic_Block_Store_vol0123456789abcdef0_1", "vol-0123456789abcdef0"),
        ("nvme-Amazon_Elastic_Block_Store_vol0123456789abcdef0-part1", None),
        ("nvme-Amazon_Elastic_Block_Store_vol0123456789abcdef0-ns-1-part1", None),
        ("nvme-Amazon_EC2_NVMe_Instance_Storage_AWS0123", None),
        ("nvme-eui.0025388b710", None),
    ],
)
def test_a_link_tells_the_volume(name: str, volume: str | None) -> None:
    assert from_link(name) == volume


def test_a_volume_id_is_read_with_and_without_its_hyphen() -> None:
    assert volume_id("vol0123456789") == volume_id("vol-0123456789") == "vol-0123456789"
    with pytest.raises(AgentError):
        volume_id("vol-../../etc")


def test_fstab_keeps_everybody_elses_lines() -> None:
    before = "# a comment\nUUID=a / ext4 defaults 0 1\nUUID=b /mnt/data ext4 x-runctl=vol-1,nofail 0 2"
    line = fstab_line("c", "/mnt/my data", "xfs", "vol-1", read_only=True)
    after = with_line(before, line, "vol-1")
    assert after == "# a comment\nUUID=a / ext4 defaults 0 1\n" + line + "\n"
    assert point_of(line) == "/mnt/my data"
    assert without_volume(after, "vol-1") == "# a comment\nUUID=a / ext4 defaults 0 1\n"
    assert without_volume(after, "vol-2") == after


def test_mountinfo_is_read_with_its_escapes() -> None:
    text = "36 35 98:0 / /mnt/my\\040data rw,noatime shared:1 master:2 - ext3 /dev/root rw,errors=continue\nnonsense\n"
    (entry,) = parse(text)
    assert (entry.mount_point, entry.device_number, entry.fstype, entry.source) == (
        "/mnt/my data",
        "98:0",
        "ext3",
        "/dev/root",
    )
    assert entry.optional == ("shared:1", "master:2")
