"""AWS's partitions, as botocore's endpoint table knows them."""

from __future__ import annotations

import json
import re
from functools import cache
from importlib import resources


def domains() -> frozenset[str]:
    """What the addresses of AWS's services end in, in any partition, over IPv4 alone or over both."""
    table = json.loads((resources.files("botocore") / "data" / "partitions.json").read_text(encoding="utf-8"))
    found = [row["outputs"] for row in table["partitions"]]
    return frozenset(row[key] for row in found for key in ("dnsSuffix", "dualStackDnsSuffix"))


@cache
def registry_hosts() -> re.Pattern[str]:
    """The names of ECR's registries ("Amazon ECR endpoints" in its reference), ``on.aws`` being its own IPv6 domain."""
    suffixes = "|".join(sorted(map(re.escape, domains() | {"on.aws"})))
    return re.compile(rf"\d{{12}}\.dkr[.-]ecr(-fips)?\.[a-z0-9-]+\.({suffixes})")


class RegistryHosts:
    """`registry_hosts` as a pattern that is made when it is first used: botocore takes a while to load."""

    def fullmatch(self, host: str) -> re.Match[str] | None:
        """The match, if the host is a registry of ECR's."""
        return registry_hosts().fullmatch(host)
