"""What the sandbox makes of user data."""

from __future__ import annotations

import gzip
import json
from email.mime.multipart import MIMEMultipart
from email.mime.text import MIMEText
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from runctl.sandbox.machines.user_data import steps_of, unpacked

NOTHING = {"boot": [], "early": [], "final": [], "problem": ""}


@pytest.mark.parametrize("data", [None, b"", b"what nobody knows", b"\x00\xff"])
def test_without_a_form_that_cloud_init_knows_nothing_is_done(data: bytes | None) -> None:
    assert steps_of(data, "ubuntu") == NOTHING


def test_a_script_is_run_after_the_first_login_is_possible() -> None:
    assert steps_of(b"#!/bin/sh\ntrue\n", "ubuntu") == {
        **NOTHING,
        "final": [{"do": "script", "text": "#!/bin/sh\ntrue\n"}],
    }


CONFIG = """\
#cloud-config
users:
  - default
  - name: worker
    shell: /bin/bash
    sudo: ALL=(ALL) NOPASSWD:ALL
    groups: docker, adm
    ssh_authorized_keys:
      - |-
        ssh-ed25519 AAAA somebody
write_files:
  - path: /etc/note
    content: |
      one
  - path: /opt/tool
    permissions: '0755'
    encoding: b64
    content: IyEvYmluL3NoCg==
    owner: worker:worker
    append: true
ssh_authorized_keys: [ssh-ed25519 BBBB another]
bootcmd:
  - systemctl daemon-reload
runcmd:
  - [touch, /ran it, 1]
"""


def test_cloud_config_is_put_into_the_order_in_which_cloud_init_carries_it_out() -> None:
    steps = steps_of(CONFIG.encode(), "ubuntu")

    assert steps["problem"] == ""
    assert steps["boot"] == [{"do": "run", "argv": ["sh", "-c", "systemctl daemon-reload"]}]
    assert steps["final"] == [{"do": "run", "argv": ["touch", "/ran it", "1"]}]
    note, tool, worker, default = steps["early"]
    assert note == {
        "do": "file",
        "path": "/etc/note",
        "content": "one\n",
        "base64": False,
        "mode": 0o644,
        "owner": "root:root",
        "append": False,
    }
    assert (tool["base64"], tool["mode"], tool["owner"], tool["append"]) == (
        True,
        0o755,
        "worker:worker",
        True,
    )
    assert worker == {
        "do": "user",
        "name": "worker",
        "shell": "/bin/bash",
        "groups": ["docker", "adm"],
        "sudo": ["ALL=(ALL) NOPASSWD:ALL"],
        "keys": ["ssh-ed25519 AAAA somebody"],
    }
    assert (default["name"], default["keys"]) == ("ubuntu", ["ssh-ed25519 BBBB another"])


def test_parts_of_one_message_are_all_done() -> None:
    message = MIMEMultipart()
    message.attach(MIMEText("#cloud-config\nruncmd: [first]\n", "cloud-config"))
    message.attach(MIMEText("#!/bin/sh\nsecond\n", "x-shellscript"))
    message.attach(MIMEText("#!/bin/sh\nthird\n", "plain"))

    steps = steps_of(message.as_bytes(), "ubuntu")

    assert steps["problem"] == ""
    assert [step.get("text") or step["argv"][-1] for step in steps["final"]] == [
        "first",
        "#!/bin/sh\nsecond\n",
        "#!/bin/sh\nthird\n",
    ]


@pytest.mark.parametrize(
    ("config", "named"),
    [
        ("packages: [gcc]", "packages"),
        ("users: [{name: x, uid: 7}]", "uid"),
        ("write_files: [{path: /x, source: y}]", "source"),
        ("write_files: [{path: /x, encoding: gz}]", "gz"),
        ("write_files: [{path: /x, permissions: rwx}]", "'rwx'"),
        ("write_files: [{path: /x, permissions: -1}]", "-1"),
        ("write_files: [{path: /x, content: !!binary aGk=}]", "binary"),
        ("write_files: [{content: x}]", "path"),
        ("write_files: [{path: [x]}]", "path"),
        ("write_files: {path: /x}", "list"),
        ("users: [{shell: /bin/sh}]", "name"),
        ("users: worker", "list"),
        ("users: [{name: x, sudo: true}]", "sudo"),
        ("users: [{name: x, groups: 7}]", "groups"),
        ("ssh_authorized_keys: 7", "list"),
        ("runcmd: ls", "list"),
        ("runcmd: [echo a: b]", "{'echo a': 'b'}"),
        ("a: 2020-99-99", "month"),
        ("a: b: c", "not YAML"),
        ("[1]", "not a mapping"),
    ],
)
def test_what_is_not_supported_is_the_problem_that_the_boot_ends_with(config: str, named: str) -> None:
    assert named in steps_of(f"#cloud-config\n{config}\n".encode(), "ubuntu")["problem"]


def test_a_part_of_another_type_is_a_problem_and_the_others_before_it_are_done() -> None:
    message = MIMEMultipart()
    message.attach(MIMEText("#!/bin/sh\n", "x-shellscript"))
    message.attach(MIMEText("boothook", "cloud-boothook"))

    steps = steps_of(message.as_bytes(), "ubuntu")

    assert "text/cloud-boothook" in steps["problem"]
    assert len(steps["final"]) == 1


@pytest.mark.parametrize(
    ("written", "mode"),
    [
        ("'0644'", 0o644),
        ("'755'", 0o755),
        ("'0o600'", 0o600),
        ("0644", 0o644),
        ("0755", 0o755),
        ("0600", 0o600),
        ("420", 0o644),
        ("", 0o644),
    ],
)
def test_permissions_that_yaml_takes_for_a_number_are_that_number(written: str, mode: int) -> None:
    config = f"#cloud-config\nwrite_files: [{{path: /x, permissions: {written}}}]\n"

    (step,) = steps_of(config.encode(), "ubuntu")["early"]

    assert step["mode"] == mode


def test_a_deferred_file_is_written_when_the_users_are_there_and_before_the_commands() -> None:
    config = (
        "#cloud-config\nruncmd: [last]\nwrite_files: [{path: /a, defer: true}, {path: /b}]\nusers: [worker]\n"
    )

    steps = steps_of(config.encode(), "ubuntu")

    assert [step.get("path", step.get("name")) for step in steps["early"]] == ["/b", "worker"]
    assert [step.get("path") or step["argv"][-1] for step in steps["final"]] == ["/a", "last"]


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=4)
    | st.dates()
    | st.binary(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "path",
                    "content",
                    "permissions",
                    "owner",
                    "encoding",
                    "name",
                    "groups",
                    "sudo",
                    "shell",
                    "x",
                ]
            )
            | st.integers(),
            inner,
            max_size=3,
        )
    ),
    max_leaves=6,
)
MODULES = st.sampled_from(
    ["bootcmd", "write_files", "users", "ssh_authorized_keys", "runcmd", "package_update"]
)


@given(st.dictionaries(MODULES, VALUES, max_size=3))
def test_whatever_a_cloud_config_holds_comes_to_steps_or_to_a_problem(config: dict[str, Any]) -> None:
    steps = steps_of(b"#cloud-config\n" + yaml.safe_dump(config).encode(), "ubuntu")

    # As it is handed to the machine.
    assert json.loads(json.dumps(steps)) == steps


def test_what_is_nested_too_deep_to_be_read_is_a_problem() -> None:
    assert steps_of(b"#cloud-config\nruncmd: " + b"[" * 5000, "ubuntu")["problem"]


def test_user_data_may_come_gzipped_and_what_only_looks_so_stays() -> None:
    assert unpacked(gzip.compress(b"#!/bin/sh\n")) == b"#!/bin/sh\n"
    for broken in (b"\x1f\x8b", gzip.compress(b"#!/bin/sh\n")[:-4], b"\x1f\x8b\x08" + b"x" * 20):
        assert unpacked(broken) == broken
