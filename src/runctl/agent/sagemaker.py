"""What SageMaker gives to a training script: folders in /opt/ml, its configuration there, variables, and the two files
that say how it ended.

Source: sagemaker-training 5.1.4, which runs scripts in SageMaker's containers, and "How Amazon SageMaker AI Provides
Training Information" in its developer guide.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import socket
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from runctl._dataclasses import dataclass
from runctl.agent.cloud.metadata import Metadata
from runctl.agent.cloud.spot_notices import TIMEOUT_SECONDS
from runctl.agent.disks.run_folders import RunFolders, make, run_folders
from runctl.agent.end_reason import RETRIED, EndReason
from runctl.agent.records import AttemptFolder
from runctl.agent.spec import CONTRACT_ROOT, SAGEMAKER, MountSpec, RunSpec

CHANNELS = CONTRACT_ROOT + "/input/data"
CONTAINER_HOST = "algo-1"
"""The name of a container's host; there is one."""
ORIGIN = "--contract"
_GROUP, _INTERFACE, _LOG_LEVEL = "homogeneousCluster", "eth0", 20
_FAILURE_LENGTH = 1024
"""Characters that SageMaker shows of a failure."""


@dataclass(frozen=True)
class Facts:
    """What only the machine knows."""

    host: str
    instance_type: str
    """``local`` where no metadata service says."""
    region: str
    cpus: int
    gpus: int
    module_dir: str
    """Where the script starts, as it sees that."""


def asked(spec: RunSpec) -> bool:
    """Whether the run is to find what SageMaker gives."""
    return spec.contract == SAGEMAKER


def with_mounts(spec: RunSpec, folder: AttemptFolder) -> RunSpec:
    """The spec with the contract's folders among its mounts; as it is where no contract is asked for. Pure."""
    if not asked(spec):
        return spec
    folders = run_folders(spec, folder)
    sources = {
        "input": folder.path / "ml" / "input",
        "model": folders.output / "model",
        "output": folders.output,
        "checkpoints": folders.checkpoints,
    }
    ours = tuple(
        MountSpec(str(source), f"{CONTRACT_ROOT}/{name}", origin=ORIGIN) for name, source in sources.items()
    )
    data = spec.data_target or next((mount.target for mount in spec.mounts), CHANNELS)
    return dataclasses.replace(spec, mounts=(*ours, *spec.mounts), data_target=data)


def make_folders(spec: RunSpec, folder: AttemptFolder) -> None:
    """What is shown is there. Raises `AgentError`, `OSError`."""
    folders = run_folders(spec, folder)
    make(folders)
    inner = [folders.output / name for name in ("model", "data", "intermediate")]
    for path in (folder.path / "ml" / "input" / "config", folder.path / "ml" / "input" / "data", *inner):
        path.mkdir(parents=True, exist_ok=True)
    if spec.container is not None and spec.container.user is not None:
        for path in inner:
            path.chmod(0o777)


def facts(spec: RunSpec, folder: AttemptFolder, variables: Mapping[str, str], gpus: int) -> Facts:
    """As this machine tells them."""
    metadata = Metadata(variables, TIMEOUT_SECONDS)

    def told(path: str) -> str | None:
        with contextlib.suppress(OSError):
            return metadata.get(path)
        return None

    container = spec.container
    workdir = container.workdir if container is not None else spec.workdir or ""
    start = PurePosixPath(workdir) if container is not None else PurePosixPath(folder.work) / workdir
    return Facts(
        host=CONTAINER_HOST if container is not None else socket.gethostname(),
        instance_type=told("instance-type") or "local",
        region=told("placement/region") or "",
        cpus=os.cpu_count() or 1,
        gpus=gpus,
        module_dir=str(start),
    )


def hyperparameters(args: Sequence[str]) -> dict[str, str]:
    """``--name value``, ``--name=value``, ``-n value`` and ``--flag`` of a command line; the last of a name wins, and
    what follows no name is none of them. Pure."""
    return dict(_pairs(list(args)))


def _pairs(args: list[str]) -> Iterator[tuple[str, str]]:
    while args:
        argument = args.pop(0)
        if not _is_option(argument):
            continue
        name, equals, value = argument.lstrip("-").partition("=")
        if not equals and args and not _is_option(args[0]):
            value = args.pop(0)
        if name:
            yield name, value


def _is_option(argument: str) -> bool:
    """Negative numbers are values."""
    return len(argument) > 1 and argument.startswith("-") and not argument[1].isdigit() and argument[1] != "."


def channels(spec: RunSpec) -> list[str]:
    """The names of the input channels: folders that are mounted where SageMaker has them. Pure."""
    found = (PurePosixPath(mount.target) for mount in spec.mounts)
    return sorted(path.name for path in found if str(path.parent) == CHANNELS)


def write_configuration(spec: RunSpec, folder: AttemptFolder, known: Facts) -> None:
    """``input/config`` has the three files that SageMaker writes. Raises `OSError`."""
    job = {
        "sagemaker_program": spec.script,
        "sagemaker_submit_directory": known.module_dir,
        "sagemaker_container_log_level": _LOG_LEVEL,
        "sagemaker_job_name": spec.run_id,
        "sagemaker_region": known.region,
    }
    files: dict[str, Any] = {
        # Every value is text: what is not a number by itself is in JSON's quotes.
        "hyperparameters.json": {
            **hyperparameters(spec.args),
            **{name: json.dumps(value) for name, value in job.items()},
        },
        "resourceconfig.json": _resources(known),
        "inputdataconfig.json": _inputs(spec),
    }
    for name, content in files.items():
        (folder.path / "ml" / "input" / "config" / name).write_text(json.dumps(content, sort_keys=True))


def _resources(known: Facts) -> dict[str, Any]:
    group = {
        "instance_group_name": _GROUP,
        "instance_type": known.instance_type,
        "hosts": [known.host],
    }
    return {
        "current_host": known.host,
        "current_instance_type": known.instance_type,
        "current_group_name": _GROUP,
        "hosts": [known.host],
        "instance_groups": [group],
        "network_interface_name": _INTERFACE,
    }


def _inputs(spec: RunSpec) -> dict[str, Any]:
    plain = {
        "TrainingInputMode": "File",
        "S3DistributionType": "FullyReplicated",
        "RecordWrapperType": "None",
    }
    return dict.fromkeys(channels(spec), plain)


def variables(spec: RunSpec, known: Facts) -> dict[str, str]:
    """What a script finds in its environment. Pure."""
    hps = {name: _value(text) for name, text in hyperparameters(spec.args).items()}
    resources, inputs = _resources(known), _inputs(spec)
    hosts, group = [known.host], resources["instance_groups"][0]
    entry = spec.script
    common: dict[str, Any] = {
        "hosts": hosts,
        "network_interface_name": _INTERFACE,
        "user_entry_point": entry,
        "resource_config": resources,
        "input_data_config": inputs,
        "output_data_dir": f"{CONTRACT_ROOT}/output/data",
        "output_intermediate_dir": f"{CONTRACT_ROOT}/output/intermediate",
        "current_host": known.host,
        "current_instance_type": known.instance_type,
        "current_instance_group": _GROUP,
        "current_instance_group_hosts": hosts,
        "instance_groups": [_GROUP],
        "instance_groups_dict": {_GROUP: group},
        "distribution_instance_groups": [],
        "is_hetero": False,
        "module_name": entry[: -len(".py")] if entry.endswith(".py") else entry,
        "log_level": _LOG_LEVEL,
        "framework_module": None,
        "input_dir": f"{CONTRACT_ROOT}/input",
        "input_config_dir": f"{CONTRACT_ROOT}/input/config",
        "output_dir": f"{CONTRACT_ROOT}/output",
        "num_cpus": known.cpus,
        "num_gpus": known.gpus,
        "num_neurons": 0,
        "model_dir": f"{CONTRACT_ROOT}/model",
        "module_dir": known.module_dir,
    }
    paths = {channel: f"{CHANNELS}/{channel}" for channel in inputs}
    whole = {
        **common,
        "additional_framework_parameters": {},
        "channel_input_dirs": paths,
        "distribution_hosts": [],
        "hyperparameters": hps,
        "is_master": True,
        "is_modelparallel_enabled": None,
        "is_smddpmprun_installed": False,
        "is_smddprun_installed": False,
        "job_name": spec.run_id,
        "master_hostname": known.host,
        "topology": [],
    }
    found = {
        **common,
        "hps": hps,
        "framework_params": {},
        "channels": sorted(inputs),
        "training_env": whole,
        "user_args": list(spec.args),
        **{f"channel_{name}": path for name, path in paths.items()},
        **{f"hp_{name}": value for name, value in hps.items()},
    }
    return {
        **{f"SM_{name.upper()}": _text(value) for name, value in found.items()},
        "CURRENT_HOST": known.host,
        "SAGEMAKER_JOB_NAME": spec.run_id,
        "SAGEMAKER_REGION": known.region,
        "TRAINING_JOB_NAME": spec.run_id,
    }


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _text(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True, separators=(",", ":"))


def report(folders: RunFolders, reason: EndReason, message: str) -> None:
    """``output/success`` or ``output/failure``, as the run ended; neither of one that goes on or was stopped. What the
    script has written there itself stays. Raises `OSError`."""
    if reason is EndReason.COMPLETED:
        (folders.output / "success").touch()
    elif reason not in RETRIED and reason is not EndReason.STOPPED:
        _write_new(folders.output / "failure", message[:_FAILURE_LENGTH])


def _write_new(path: Path, text: str) -> None:
    with contextlib.suppress(FileExistsError), path.open("x") as file:
        file.write(text)
