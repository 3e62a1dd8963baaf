"""The rights that filling needs, as the statements of a policy. Pure."""

from __future__ import annotations

import json
from typing import Any, Dict, List

from runctl.agent.fill.objects import Source
from runctl.agent.fill.partitions import PARTITIONS
from runctl.agent.fill.partitions import partition_of as partition_of  # noqa: PLC0414 (a part of this interface)


def statements(source: Source, partition: str = "aws") -> List[Dict[str, Any]]:
    """Reading what lies in the folder, listing it, and decrypting what S3 reads for the caller; no more."""
    bucket = "arn:{}:s3:::{}".format(partition, source.bucket)
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


def policy(source: Source, partition: str = "aws") -> Dict[str, Any]:
    """A whole policy."""
    return {"Version": "2012-10-17", "Statement": statements(source, partition)}


def to_add(source: Source, partition: str = "aws") -> str:
    """What a person adds to a role's policy: the first two statements, on one line."""
    return json.dumps(statements(source, partition)[:2], separators=(",", ":"))
