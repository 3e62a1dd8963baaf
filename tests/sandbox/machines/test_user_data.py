"""What the sandbox makes of user data."""

from __future__ import annotations

from email.mime.multipart import MIMEMultipart
from email.mime.text import MIMEText

import pytest

from runctl.sandbox.machines.user_data import steps_of

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
        ("runcmd: ls", "list"),
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
