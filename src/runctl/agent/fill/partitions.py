"""AWS's partitions and their domains, for machines that have no botocore.

The table is botocore's own (``botocore/data/partitions.json``); a test holds the two against each other.
"""

from __future__ import annotations

import re
from typing import Tuple

PARTITIONS: Tuple[Tuple[str, str, str], ...] = (
    ("aws", "amazonaws.com", r"^(us|eu|ap|sa|ca|me|af|il|mx)\-\w+\-\d+$"),
    ("aws-cn", "amazonaws.com.cn", r"^cn\-\w+\-\d+$"),
    ("aws-eusc", "amazonaws.eu", r"^eusc\-(de)\-\w+\-\d+$"),
    ("aws-iso", "c2s.ic.gov", r"^us\-iso\-\w+\-\d+$"),
    ("aws-iso-b", "sc2s.sgov.gov", r"^us\-isob\-\w+\-\d+$"),
    ("aws-iso-e", "cloud.adc-e.uk", r"^eu\-isoe\-\w+\-\d+$"),
    ("aws-iso-f", "csp.hci.ic.gov", r"^us\-isof\-\w+\-\d+$"),
    ("aws-us-gov", "amazonaws.com", r"^us\-gov\-\w+\-\d+$"),
)
"""Name, domain of the addresses, and what the names of the regions match."""


def partition_of(region: str) -> str:
    """The partition that a region is in; ``aws`` for a region that is newer than the table."""
    return _found(region)[0]


def domain_of(region: str) -> str:
    """What the addresses of the region's services end in."""
    return _found(region)[1]


def _found(region: str) -> Tuple[str, str, str]:
    return next((row for row in PARTITIONS if re.match(row[2], region)), PARTITIONS[0])
