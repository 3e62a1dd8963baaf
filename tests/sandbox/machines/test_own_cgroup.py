"""A machine's own control groups."""

from __future__ import annotations

from pathlib import Path

from runctl.sandbox.machines.own_cgroup import hierarchies

MOUNTS = """\
23 1 0:20 / /sys rw,relatime - sysfs sysfs rw
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime shared:5 - cgroup cgroup rw,cpu
40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,name=systemd
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
50 1 0:37 / /elsewhere/systemd rw,relatime - cgroup cgroup rw,name=systemd
"""


def test_every_hierarchy_of_this_computer_is_found_and_no_copy_of_one() -> None:
    names = [path.name for path in hierarchies(MOUNTS)]
    assert names == ["cpu", "systemd", "unified"]


def test_where_there_is_one_hierarchy_it_is_the_folder_itself() -> None:
    line = "31 23 0:28 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"
    assert hierarchies(line) == [Path("/sys/fs/cgroup")]
