"""What AWS bills besides machines, item by item. Imported for ``--help``, so it imports nothing of ours."""

from __future__ import annotations

from enum import StrEnum


class Item(StrEnum):
    """What AWS bills, besides machines."""

    GP3 = "ebs-gp3"
    GP3_IOPS = "ebs-gp3-iops"
    GP3_THROUGHPUT = "ebs-gp3-throughput"
    """MiB/s."""
    GP2 = "ebs-gp2"
    IO1 = "ebs-io1"
    IO1_IOPS = "ebs-io1-iops"
    IO2 = "ebs-io2"
    IO2_IOPS = "ebs-io2-iops"
    ST1 = "ebs-st1"
    SC1 = "ebs-sc1"
    STANDARD = "ebs-standard"
    SNAPSHOT = "ebs-snapshot"
    """What it does not share with the snapshot before it."""
    INITIALIZATION = "ebs-initialization"
    """A GiB of a snapshot's data put onto a volume, for each MiB/s that is promised."""
    PUBLIC_IPV4 = "public-ipv4"
    NAT_HOUR = "nat-hour"
    NAT_GIB = "nat-gib"
    S3_STORAGE = "s3-storage"
    S3_WRITES = "s3-writes"
    S3_READS = "s3-reads"
    DATA_OUT = "data-out"
    ECR_STORAGE = "ecr-storage"
