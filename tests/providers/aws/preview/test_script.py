"""Scripts of ``aws`` commands: a shell takes each word as it was meant; ids that are not known yet are variables."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from runctl.providers.aws.preview.script import Script

PROGRAM = """\
#!/bin/sh
printf '%s\\0' "$@" >>calls
printf '\\n\\0' >>calls
for each; do
    case $each in fileb://*) cp "${each#fileb://}" file ;; esac
done
echo "${ANSWER:-id-of-what-was-made}"
"""
HOSTILE = "a 'b' \"c\" $HOME `id` $(id) \\ \n* ; | & # ü"


@pytest.fixture
def ran(tmp_path: Path) -> Any:
    """The arguments that each ``aws`` of a script was called with: a program of that name writes them down."""
    program = tmp_path / "bin" / "aws"
    program.parent.mkdir()
    program.write_text(PROGRAM)
    program.chmod(0o755)

    def run(script: Script) -> list[list[str]]:
        path = f"{program.parent}{os.pathsep}{os.environ['PATH']}"
        text = script.text("a test", {})
        subprocess.run(
            ["sh", "-c", text], cwd=tmp_path, env={**os.environ, "PATH": path}, check=True, timeout=30
        )
        calls: list[list[str]] = [[]]
        for word in (tmp_path / "calls").read_text().split("\0")[:-1]:
            if word == "\n":
                calls.append([])
            else:
                calls[-1].append(word)
        return calls[:-1]

    return run


def test_whatever_is_in_a_value_arrives_as_it_is(ran: Any) -> None:
    script = Script()
    tags = [{"Key": "Name", "Value": HOSTILE}]
    script.call("ec2", "CreateTags", {"Resources": ["vol-1", "vol-2"], "Tags": tags})
    script.call("s3", "CreateBucket", {"Bucket": "b"}, region="eu-west-1")
    script.call("ec2", "CreateSnapshot", {"Description": "-d", "Encrypted": True, "Force": False})
    first, second, third = ran(script)
    assert first[:6] == ["ec2", "create-tags", "--resources", "vol-1", "vol-2", "--tags"]
    assert json.loads(first[6]) == tags
    assert second == ["s3api", "create-bucket", "--region", "eu-west-1", "--bucket", "b"]
    assert third == ["ec2", "create-snapshot", "--description=-d", "--encrypted", "--no-force"]


def test_what_is_made_is_a_variable_wherever_it_is_used_later(ran: Any) -> None:
    script = Script()
    one, two = script.placeholder("VOLUME_ID", "vol-"), script.placeholder("VOLUME_ID", "vol-")
    script.call("ec2", "CreateVolume", {"Size": 1}, keeps=([one], "VolumeId"))
    script.call("ec2", "CreateVolume", {"Size": 2}, keeps=([two], "VolumeId"))
    script.call(
        "ec2", "CreateTags", {"Resources": [two], "Tags": [{"Key": "of", "Value": f"{HOSTILE} {one}"}]}
    )
    *_, (*_, resource, _, tags) = ran(script)
    assert resource == "id-of-what-was-made"
    assert json.loads(tags) == [{"Key": "of", "Value": f"{HOSTILE} id-of-what-was-made"}]
    assert '"$VOLUME_ID_2"' in script.text("", {})


def test_each_of_several_that_one_call_makes_is_a_variable_and_too_few_end_the_script(
    ran: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = Script()
    made = [script.placeholder("INSTANCE_ID", "i-") for _ in range(2)]
    script.call("ec2", "CreateFleet", {"Type": "instant"}, keeps=(made, "Instances[].InstanceIds[]"))
    script.call("ec2", "CreateTags", {"Resources": list(reversed(made))})
    monkeypatch.setenv("ANSWER", "i-one\ti-two")
    fleet, tagged = ran(script)
    assert fleet[-4:] == ["--query", "Instances[].InstanceIds[]", "--output", "text"]
    assert tagged[-2:] == ["i-two", "i-one"]
    monkeypatch.setenv("ANSWER", "i-one")
    with pytest.raises(subprocess.CalledProcessError):
        ran(script)


def test_user_data_comes_as_a_file(ran: Any, tmp_path: Path) -> None:
    script = Script()
    data = bytes(range(256))
    script.call("ec2", "RunInstances", {"MinCount": 1, "MaxCount": 1, "UserData": data})
    ((*_, count),) = ran(script)
    assert count == "1"
    assert (tmp_path / "file").read_bytes() == data


def test_a_comment_is_said_once_and_ends_nothing() -> None:
    script = Script()
    made = script.placeholder("INSTANCE_ID", "i-")
    script.comment(f"on {made}\nrm -rf /")
    script.comment(f"on {made}\nrm -rf /")
    assert script.text("about", {"A": "b c"}) == (
        "#!/bin/sh\n# about\nset -eu\nexport A='b c'\n\n# on $INSTANCE_ID\n# rm -rf /\n"
    )
