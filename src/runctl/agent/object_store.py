"""What the command line and its program on machines both know of S3: addresses of folders, AWS's partitions, and the
rights that reading a folder needs."""

from __future__ import annotations

import json
import re
from typing import Any

from runctl._dataclasses import dataclass

PARTITIONS: tuple[tuple[str, str, str], ...] = (
    ("aws", "amazonaws.com", r"^(us|eu|ap|sa|ca|me|af|il|mx)\-\w+\-\d+$"),
    ("aws-cn", "amazonaws.com.cn", r"^cn\-\w+\-\d+$"),
    ("aws-eusc", "amazonaws.eu", r"^eusc\-(de)\-\w+\-\d+$"),
    ("aws-iso", "c2s.ic.gov", r"^us\-iso\-\w+\-\d+$"),
    ("aws-iso-b", "sc2s.sgov.gov", r"^us\-isob\-\w+\-\d+$"),
    ("aws-iso-e", "cloud.adc-e.uk", r"^eu\-isoe\-\w+\-\d+$"),
    ("aws-iso-f", "csp.hci.ic.gov", r"^us\-isof\-\w+\-\d+$"),
    ("aws-us-gov", "amazonaws.com", r"^us\-gov\-\w+\-\d+$"),
)
"""Name, domain of the addresses, and what the names of the regions match: botocore's own table
(``botocore/data/partitions.json``), which machines do not have; a test holds the two against each other."""


KEY_VARIABLES = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
"""By which every tool that speaks to a store of S3's kind finds its keys."""
KEY_OPTIONS = " ".join(f"--env {name}" for name in KEY_VARIABLES)
"""Which give a run the caller's own keys."""


def partition_of(region: str) -> str:
    """The partition that a region is in; ``aws`` for a region that is newer than the table."""
    return _found(region)[0]


def domain_of(region: str) -> str:
    """What the addresses of the region's services end in."""
    return _found(region)[1]


def _found(region: str) -> tuple[str, str, str]:
    return next((row for row in PARTITIONS if re.match(row[2], region)), PARTITIONS[0])


@dataclass(frozen=True)
class Source:
    """``s3://bucket/prefix``. A prefix is a folder or one object, not the beginning of a name."""

    bucket: str
    prefix: str = ""
    """Without slashes at either end; empty for the whole bucket."""

    def __str__(self) -> str:
        return f"s3://{self.bucket}/{self.prefix}" if self.prefix else "s3://" + self.bucket


def is_address(text: str) -> bool:
    """Whether it names something in an object store, and not a folder."""
    return "://" in text


def parse_source(text: str) -> Source:
    """Raises `ValueError` for what is not the address of a bucket or of a folder in one."""
    scheme, separator, rest = text.partition("://")
    bucket, _, prefix = rest.partition("/")
    fit = bucket and all(c.isascii() and (c.islower() or c.isdigit() or c in "-.") for c in bucket)
    if scheme != "s3" or not separator or not fit or not 3 <= len(bucket) <= 63:
        raise ValueError(f"{text!r} is not an S3 address such as s3://bucket/folder")
    return Source(bucket, prefix.strip("/"))


def statements(source: Source, partition: str = "aws") -> list[dict[str, Any]]:
    """Reading what lies in the folder, listing it, and decrypting what S3 reads for the caller; no more."""
    bucket = f"arn:{partition}:s3:::{source.bucket}"
    prefix = literal(source.prefix)
    listed = [prefix, prefix + "/*"] if prefix else ["", "*"]
    objects = [bucket + "/" + prefix, bucket + "/" + prefix + "/*"] if prefix else [bucket + "/*"]
    return [
        {"Effect": "Allow", "Action": "s3:GetObject", "Resource": objects},
        {
            "Effect": "Allow",
            "Action": "s3:ListBucket",
            "Resource": bucket,
            "Condition": {"StringLike": {"s3:prefix": listed}},
        },
        {
            "Effect": "Allow",
            "Action": "kms:Decrypt",
            "Resource": "*",
            "Condition": {
                "StringLike": {
                    "kms:ViaService": sorted(
                        {"s3.*." + domain for name, domain, _ in PARTITIONS if name in (partition, "aws")}
                    ),
                    "kms:EncryptionContext:aws:s3:arn": [bucket, *objects],
                }
            },
        },
    ]


def literal(text: str) -> str:
    """The text for a policy in which ``*``, ``?`` and ``$`` stand for themselves: S3's keys may contain them."""
    return "".join("${" + character + "}" if character in "*?$" else character for character in text)


def policy(source: Source, partition: str = "aws") -> dict[str, Any]:
    """A whole policy."""
    return {"Version": "2012-10-17", "Statement": statements(source, partition)}


def to_add(source: Source, partition: str = "aws") -> str:
    """What a person adds to a role's policy: the first two statements, on one line."""
    return json.dumps(statements(source, partition)[:2], separators=(",", ":"))


def to_write(source: Source, partition: str = "aws") -> str:
    """What a machine needs that keeps checkpoints in a folder, on one line: reading, writing, listing, deleting."""
    bucket = f"arn:{partition}:s3:::{source.bucket}"
    prefix = literal(source.prefix)
    actions = ["s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload"]
    actions += ["s3:ListMultipartUploadParts"]
    allowed = {
        "Effect": "Allow",
        "Action": actions,
        "Resource": f"{bucket}/{prefix}/*" if prefix else bucket + "/*",
    }
    listing = {"Effect": "Allow", "Action": "s3:ListBucket", "Resource": bucket}
    return json.dumps([allowed, listing], separators=(",", ":"))
