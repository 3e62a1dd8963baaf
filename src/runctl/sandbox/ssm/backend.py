"""moto's Systems Manager, whose commands really run: Run Command, and public parameters."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable
from typing import IO, Any

from moto.core.utils import utcnow
from moto.ec2.models import ec2_backends
from moto.s3.exceptions import S3ClientError
from moto.s3.models import s3_backends
from moto.ssm.exceptions import SSMException
from moto.ssm.models import Parameter, SimpleSystemManagerBackend, ssm_backends

from runctl.sandbox.ssm import agents as ssm_agents
from runctl.sandbox.ssm import request as ssm_request
from runctl.sandbox.ssm.command import PLUGIN, SandboxCommand
from runctl.sandbox.ssm.invocation import AnyMachine, Gone, Invocation, Order
from runctl.sandbox.world import ACCOUNT, current

AT_ONCE = 5
"""How many commands of one machine the agent works on at a time."""


class SandboxSsm(SimpleSystemManagerBackend):
    """One region of Systems Manager whose agents are in the sandbox's machines."""

    __module__ = SimpleSystemManagerBackend.__module__
    """moto finds a service's addresses by the module of its back-end."""

    def __init__(self, region_name: str, account_id: str) -> None:
        super().__init__(region_name, account_id)
        self._slots: dict[str, threading.BoundedSemaphore] = {}
        self._sent: dict[str, SandboxCommand] = {}

    def run_command(self, request: ssm_request.Request) -> SandboxCommand:
        """The command is on its way. Raises `SSMException` as AWS refuses it."""
        targets = self._targets(request)
        if len(set(request.instance_ids)) < len(request.instance_ids):
            raise SSMException("DuplicateInstanceId", "")
        if not request.targets:
            absent = [
                instance_id
                for instance_id in targets
                if not ssm_agents.is_online(self.region_name, instance_id)
            ]
            if absent:
                raise SSMException(
                    "InvalidInstanceId",
                    f"Instances [[{', '.join(absent)}]] not in a valid state for account {self.account_id}",
                )
        if request.document_name != "AWS-RunShellScript":
            raise SSMException(
                "InvalidDocument", f"Document with name {request.document_name} does not exist."
            )
        command_id = str(uuid.uuid4())
        command: SandboxCommand

        def keeper(instance_id: str) -> Callable[[str, IO[bytes]], None]:
            return lambda name, file: self._keep_output(command, instance_id, name, file)

        invocations = [
            Invocation(
                Order(
                    command_id,
                    instance_id,
                    self.region_name,
                    request.commands,
                    request.working_directory,
                    request.execution_seconds,
                    request.timeout_seconds,
                ),
                find=self._finder(instance_id),
                slots=self._slots.setdefault(instance_id, threading.BoundedSemaphore(AT_ONCE)),
                keep=keeper(instance_id),
            )
            for instance_id in targets
        ]
        command = SandboxCommand(request, invocations, command_id)
        self._sent[command_id] = command
        for invocation in invocations:
            threading.Thread(target=invocation.run, name=f"ssm-{command_id[:8]}", daemon=True).start()
        return command

    def sent(self, command_id: str | None, instance_id: str | None = None) -> list[SandboxCommand]:
        """Commands, the newest first. Raises `SSMException` for an id that no command has."""
        if command_id is not None and command_id not in self._sent:
            raise SSMException("InvalidCommandId", "")
        found = [self._sent[command_id]] if command_id is not None else list(self._sent.values())[::-1]
        return [command for command in found if instance_id is None or instance_id in command.invocations]

    def get_command_invocation(
        self, command_id: str, instance_id: str, plugin_name: str | None
    ) -> dict[str, Any]:
        """The API's answer. Raises `SSMException` for one that is not there, or not there yet."""
        command = self._sent.get(command_id)
        if (
            command is None
            or instance_id not in command.invocations
            or not command.is_visible()
            or plugin_name not in {None, "", PLUGIN}
        ):
            raise SSMException("InvocationDoesNotExist", "")
        return command.invocation_object(instance_id)

    def set_public_parameter(self, name: str, value: str) -> None:
        """AWS has published this value."""
        versions = self._parameters[name]
        versions.append(
            Parameter(  # type: ignore[abstract]  # as moto itself makes them
                account_id=self.account_id,
                name=name,
                value=value,
                parameter_type="String",
                description=None,
                allowed_pattern=None,
                keyid=None,
                last_modified_date=utcnow(),
                version=len(versions) + 1,
                data_type="aws:ec2:image" if value.startswith("ami-") else "text",
                tier="Standard",
            )
        )

    def _targets(self, request: ssm_request.Request) -> list[str]:
        if not request.targets:
            return list(request.instance_ids)
        backend = ec2_backends[self.account_id][self.region_name]
        chosen: list[str] | None = None
        for target in request.targets:
            key, values = target["Key"], list(target["Values"])
            if key.lower() == "instanceids":
                these = values
            elif key.startswith("tag:"):
                these = [
                    instance.id
                    for instance in backend.all_instances()
                    if _tags(instance).get(key.removeprefix("tag:")) in values
                ]
            else:
                raise SSMException("InvalidTarget", f"The target key {key} is not valid here.")
            chosen = (
                these if chosen is None else [instance_id for instance_id in chosen if instance_id in these]
            )
        managed = {row["InstanceId"] for row in ssm_agents.instance_information(self.region_name)}
        return [instance_id for instance_id in dict.fromkeys(chosen or ()) if instance_id in managed]

    def _finder(self, instance_id: str) -> Callable[[], AnyMachine | None]:
        def find() -> AnyMachine | None:
            instance = ssm_agents.find_instance(self.region_name, instance_id)
            if instance is None or instance.state in {"shutting-down", "terminated"}:
                raise Gone(instance_id)
            return (
                current().machine(instance_id)
                if ssm_agents.is_online(self.region_name, instance_id)
                else None
            )

        return find

    def _keep_output(self, command: SandboxCommand, instance_id: str, name: str, file: IO[bytes]) -> None:
        if not command.request.bucket:
            return
        try:
            s3_backends[self.account_id][self.partition].put_object(
                command.request.bucket, command.output_key(instance_id, name), file.read()
            )
        except S3ClientError:
            # The agent logs it on the machine and goes on: the command's own result stands.
            return


def backend(region: str | None = None) -> SandboxSsm:
    """Systems Manager of a region; by default the sandbox's own."""
    found = ssm_backends[ACCOUNT][region or current().region]
    if not isinstance(found, SandboxSsm):
        raise AssertionError("install() has not run")
    return found


def set_public_parameter(name: str, value: str) -> None:
    """AWS has published this value under ``/aws/service/…`` in the sandbox's region."""
    backend().set_public_parameter(name, value)


def _tags(instance: Any) -> dict[str, str]:
    return {tag["key"]: tag["value"] for tag in instance.get_tags()}
