"""``export kubernetes`` as it is typed, with volumes and instance types of an account."""

from __future__ import annotations

from pathlib import Path

import kubernetes_validate
import pytest
import yaml

from tests.e2e import account
from tests.e2e.command_line import CommandLine, write_project
from tests.export.kubernetes.rules import problems

pytestmark = [pytest.mark.namespaces, pytest.mark.root, pytest.mark.usefixtures("in_sandbox")]

IMAGE = "digits@sha256:" + "0" * 64


@pytest.fixture
def runctl(tmp_path: Path) -> CommandLine:
    return CommandLine(
        write_project(tmp_path / "digits", {"train.py": "", "Dockerfile": "FROM python\nCOPY . .\n"})
    )


def test_a_run_is_written_with_its_volume_and_the_types_that_have_its_gpu(runctl: CommandLine) -> None:
    volume = account.volume(runctl, "exported")
    argv = ("export", "kubernetes", "train.py", "--image", IMAGE, "--gpu", "T4:1", "--spot")
    options = ("--ebs-mount", "exported:/data", "--env", "API_TOKEN=word-of-mine", "--shm-size", "1g")

    written = runctl(*argv, *options, "--", "--epochs", "5").ok()
    again = runctl(*argv, *options, "--to", "run.yaml", "--output", "json", "--", "--epochs", "5").ok()

    assert (runctl.cwd / "run.yaml").read_text() == written.out
    assert "word-of-mine" not in written.out + written.err + again.out
    documents = list(yaml.safe_load_all(written.out))
    for document in documents:
        kubernetes_validate.validate(document, "1.37", strict=True)
    assert problems(documents) == []
    assert again.json["name"] == documents[-1]["metadata"]["name"]
    assert again.json["secrets"] == ["API_TOKEN"]
    (disk,) = [each["spec"] for each in documents if each["kind"] == "PersistentVolume"]
    assert (disk["csi"]["volumeHandle"], disk["csi"]["driver"]) == (volume, "ebs.csi.aws.com")
    pod = documents[-1]["spec"]["template"]["spec"]
    terms = pod["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"][
        "nodeSelectorTerms"
    ]
    types = terms[0]["matchExpressions"][1]["values"]
    assert "g4dn.xlarge" in types
    assert all(each.startswith("g4dn.") for each in types)
    assert pod["containers"][0]["resources"] == {"limits": {"nvidia.com/gpu": "1"}}
    runctl("aws", "ebs", "delete", volume, "--yes").ok()


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (("--dev-mode",), "not-carried-over", "--dev-mode is not carried over to a cluster"),
        (("--no-docker",), "not-carried-over", "--no-docker is not carried over"),
        (("--gpu", "Z9:1"), "not-found", "no instance type with 1 Z9"),
        (("--ebs-volume", "nowhere"), "not-found", "nowhere"),
        (("--dockerfile", "Dockerfile", "--image", IMAGE), "usage", "contradict each other"),
    ],
)
def test_what_cannot_be_is_said(
    runctl: CommandLine, options: tuple[str, ...], code: str, message: str
) -> None:
    image = () if "--image" in options else ("--image", IMAGE)

    refused = runctl("export", "kubernetes", "train.py", *image, *options, "--output", "json")

    assert refused.code != 0
    assert message in refused.error["message"]
    assert refused.error["code"] == code
