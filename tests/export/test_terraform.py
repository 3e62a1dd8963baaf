"""The file that is written: where what is not in it is named, and resources of several regions."""

from __future__ import annotations

from runctl.export.terraform import configuration
from runctl.providers.abilities.inventory import Unread
from runctl.providers.abilities.terraform import LeftOut, TerraformModule, TerraformResource

HERE = TerraformResource("cloud_disk", "a", "disk-1", {"size": 1}, "north", comment="It is an old one.")
THERE = TerraformResource("cloud_disk", "b", "disk-2", {"size": 2}, "far-south")
EVERYWHERE = TerraformResource("cloud_role", "r", "role", {})
MODULE = TerraformModule("cloud", "somebody/cloud", "~> 1.0", "north", (HERE, THERE, EVERYWHERE))


def test_each_resource_is_tied_to_what_exists_in_its_region() -> None:
    text = configuration([MODULE], [], [])
    assert "3 to import, 0 to add" in text
    assert 'provider "cloud" {\n  region = "north"\n}\n' in text
    assert 'provider "cloud" {\n  alias  = "far_south"\n  region = "far-south"\n}\n' in text
    assert 'import {\n  to = cloud_disk.a\n  id = "disk-1"\n}\n' in text
    assert '# It is an old one.\nresource "cloud_disk" "a" {\n  size = 1\n}\n' in text
    assert 'resource "cloud_disk" "b" {\n  provider = cloud.far_south\n  size     = 2\n}\n' in text
    assert 'resource "cloud_role" "r" {}\n' in text


def test_what_is_not_in_the_file_is_named_at_its_top() -> None:
    unread = Unread("cloud", "far-south", "disks", "no answer\n}", "unreachable")
    head = configuration([], [LeftOut("fleet f", "it rents once")], [unread])
    assert all(line.startswith("#") for line in head.splitlines())
    assert "#   fleet f: it rents once\n" in head
    assert "#   disks in far-south: no answer\n# }" in head
