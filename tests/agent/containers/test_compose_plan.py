"""A Compose project as plain data."""

from __future__ import annotations

import json
from pathlib import Path

from runctl.agent.containers.companions import with_service
from runctl.agent.containers.compose_plan import Service, override, parse_services, project_name, with_command
from runctl.agent.containers.container_plan import Plan
from runctl.agent.disks.run_folders import run_folders
from runctl.agent.records import AttemptFolder
from runctl.agent.spec import ContainerSpec, MountSpec, RunSpec

CONFIG = """\
name: x
networks:
  default: {}
services:
  'a b':
    image: "reg:5000/x:1"
  trainer:
    build:
      context: /w
    environment:
      image: no
    image: own
  plain: {}
volumes:
  data:
    name: x
"""


def plan(**more: object) -> Plan:
    values: dict[str, object] = {
        "args": ("$X",),
        "container": ContainerSpec(compose="t", compose_file="c"),
        **more,
    }
    spec = RunSpec("Run_1", "train.py", **values)  # type: ignore[arg-type]
    assert spec.container is not None
    folder = AttemptFolder(Path("/state/runs/r/1"))
    return Plan(
        spec,
        spec.container,
        "img",
        run_folders(spec, folder),
        folder,
        False,
        None,
        "1000:1000",
        "ubuntu",
        "2",
        64,
    )


def test_services_are_found_in_what_compose_prints() -> None:
    assert parse_services(CONFIG) == [
        Service("a b", "reg:5000/x:1"),
        Service("trainer", "own", builds=True),
        Service("plain"),
    ]
    assert parse_services("") == []


def test_what_is_laid_over_the_file_is_meant_as_it_is() -> None:
    item = plan(mounts=(MountSpec("/mnt/$data", "/data", read_only=True),))
    document = with_command(override(item, "t", [Service("t"), Service("db")], {"TOKEN": "a$b"}), item, "t")
    main = json.loads(json.dumps(document))["services"]["t"]
    assert main["environment"] == {"TOKEN": "a$$b"}
    assert main["entrypoint"] == ["python3"]
    assert main["command"] == ["-u", "train.py", "$$X"]
    assert {"type": "bind", "source": "/mnt/$$data", "target": "/data", "read_only": True} in main["volumes"]
    assert main["user"] == "1000:1000"
    assert main["restart"] == "no"
    assert main["deploy"]["resources"]["reservations"]["devices"][0]["count"] == 2
    assert set(document["services"]["db"]) == {"labels"}


def test_a_services_own_command_and_folder_are_left_to_it() -> None:
    container = ContainerSpec(compose="t", compose_file="c")
    spec = RunSpec("r", "", is_command=True, container=container)
    folder = AttemptFolder(Path("/state/runs/r/1"))
    item = Plan(
        spec, container, "img", run_folders(spec, folder), folder, False, ["serve"], "", "ubuntu", "", 64
    )
    main = with_command(override(item, "t", [Service("t")], {}), item, "t")["services"]["t"]
    assert not {"entrypoint", "command", "working_dir", "user", "deploy"} & set(main)


def test_a_projects_name_is_one_that_compose_takes() -> None:
    assert project_name(RunSpec("Run_X.1", "t.py", attempt=3)) == "runctl-run_x-1-3"


def test_each_line_of_a_side_car_has_its_name() -> None:
    assert with_service("db", b"one\n\ntwo") == b"db | one\ndb | \ndb | two\n"
