"""`runctl.create`, `runctl.volumes` and `runctl.terminate`: what the page shows, on machines of the sandbox."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import runctl
from runctl import connect
from runctl.sandbox.connection import SandboxInfo
from tests.machines.conftest import Runctl
from tests.sandbox.account import Account, until

pytestmark = [pytest.mark.namespaces, pytest.mark.root, pytest.mark.usefixtures("empty_account")]

PAGE = Path(__file__).parents[2] / "docs" / "from-python.md"


@pytest.fixture
def empty_account(sandbox: SandboxInfo, tmp_path: Path) -> None:
    """Other tests leave in the sandbox what a killed command had made; these count what is there."""
    ec2 = Account(sandbox, tmp_path).ec2

    def instances() -> list[str]:
        found = [each for group in ec2.describe_instances()["Reservations"] for each in group["Instances"]]
        return [each["InstanceId"] for each in found if each["State"]["Name"] != "terminated"]

    if left := instances():
        ec2.terminate_instances(InstanceIds=left)
        until(lambda: not instances(), "the instances to be gone")
    volumes = [volume["VolumeId"] for volume in ec2.describe_volumes()["Volumes"]]
    for volume_id in volumes:
        ec2.delete_volume(VolumeId=volume_id)


def test_the_page_does_what_it_shows(runctl: Runctl, capsys: pytest.CaptureFixture[str]) -> None:
    Path("train.py").write_text("import sys\nprint('trains', sys.argv[1:])\n")
    page = PAGE.read_text()
    rented = page[page.index("## Rent a machine") : page.index("## Progress")]
    namespace: dict[str, object] = {}
    for block in re.findall(r"^```python\n(.*?)^```", rented, re.DOTALL | re.MULTILINE):
        exec(compile(block, str(PAGE), "exec"), namespace)

    printed = capsys.readouterr().out
    assert re.match(r"renting g4dn.xlarge for 0\.\d+ USD an hour\ni-\w+ running\n", printed)
    assert re.search(r"^for 0\.\d+ USD an hour$", printed, re.MULTILINE)
    assert "trains ['--epochs', '3']" in printed
    assert "COMPLETED True True" in printed
    assert "completed with the data of vol-" in printed
    made = re.search(r"^(vol-\w+) was made without runctl$", printed, re.MULTILINE)
    assert made is not None
    connect("aws").client("ec2").delete_volume(VolumeId=made[1])
    assert runctl.ok("aws", "list").document == []
    assert runctl.ok("aws", "ebs", "list").document == []


@pytest.mark.usefixtures("runctl")
def test_volumes_are_made_changed_and_copied_without_a_machine(capsys: pytest.CaptureFixture[str]) -> None:
    session = runctl.Session()
    volumes = runctl.volumes
    created = volumes.create(1, name="small", zone="us-east-1a", tags={"team": "blue"}, session=session)
    assert (created.size_gib, created.tags["team"]) == (1, "blue")

    assert volumes.resize("small", 2, session=session).size_gib == 2
    copy = volumes.clone("small", name="copy", session=session)
    taken = volumes.snapshot("copy", name="copied", session=session)
    back = volumes.restore("copied", name="back", zone="us-east-1a", session=session)

    assert (copy.source_volume_id, taken.volume_id, back.snapshot_id) == (created.id, copy.id, taken.id)
    assert [each.id for each in volumes.snapshots("copy", session=session)] == [taken.id]
    assert volumes.show("copy", session=session).snapshots == (taken,)
    assert [each.id for each in volumes.delete("copy", "back", session=session)] == [copy.id, back.id]
    volumes.delete_snapshots("copied", session=session)
    moved = volumes.move("small", "us-east-1b", delete_source=True, session=session)
    assert (moved.name, moved.zone) == ("small", "us-east-1b")
    volumes.delete("small", session=session)

    assert volumes.list(session=session) == ()
    assert session.intents.unfinished() == []
    with pytest.raises(runctl.NotFound):
        volumes.show("small", session=session)
    # A library prints nothing.
    assert capsys.readouterr() == ("", "")


def test_what_boto3_has_made_is_nobodys_until_it_is_adopted(runctl: Runctl) -> None:
    ec2 = connect("aws").client("ec2")
    assert ec2.meta.region_name == "us-east-1"
    name = [{"ResourceType": "volume", "Tags": [{"Key": "Name", "Value": "by-boto3"}]}]
    made = ec2.create_volume(AvailabilityZone="us-east-1a", Size=1, TagSpecifications=name)["VolumeId"]
    assert runctl.ok("aws", "ebs", "list").document == []
    assert runctl("aws", "ebs", "delete", made).error["code"] == "not-ours"

    assert runctl.ok("resources", "adopt", made, "--dry-run").document["take_over"] == [made]
    assert runctl.ok("aws", "ebs", "list").document == []
    assert runctl.ok("resources", "adopt", made).document["resources"] == [made]
    assert [each["name"] for each in runctl.ok("aws", "ebs", "list").document] == ["by-boto3"]
    assert runctl.ok("resources", "adopt", made).document["resources"] == [], "it is"
    runctl.ok("aws", "ebs", "delete", made)
    assert ec2.describe_volumes()["Volumes"] == []
