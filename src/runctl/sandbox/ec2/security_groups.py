"""Security groups whose rules are the machines' firewalls."""

from __future__ import annotations

from typing import Any

from moto.ec2.exceptions import EC2ClientError

from runctl.sandbox.ec2.world_backend import WorldBackend
from runctl.sandbox.machines.machine import Machine


class SecurityGroups(WorldBackend):
    """Machines let in what their groups let in."""

    def authorize_security_group_ingress(self, *arguments: Any, **more: Any) -> Any:
        """Machines of the group let it in from now on."""
        answer = super().authorize_security_group_ingress(*arguments, **more)
        self._apply_groups()
        return answer

    def revoke_security_group_ingress(self, *arguments: Any, **more: Any) -> Any:
        """Machines of the group no longer let it in."""
        answer = super().revoke_security_group_ingress(*arguments, **more)
        self._apply_groups()
        return answer

    def modify_instance_security_groups(self, *arguments: Any, **more: Any) -> Any:
        """The machine has the new groups' rules."""
        answer = super().modify_instance_security_groups(*arguments, **more)
        self._apply_groups()
        return answer

    def delete_security_group(self, name: str | None = None, group_id: str | None = None) -> None:
        """Refused while an instance has it."""
        found = self.get_security_group_by_name_or_id(group_id or name or "")
        if found is not None and any(
            found.id in _groups_of(instance)
            for instance in self.all_instances()
            if instance._state.name != "terminated"
        ):
            raise EC2ClientError("DependencyViolation", f"resource {found.id} has a dependent object")
        super().delete_security_group(name, group_id)

    def _apply_groups(self) -> None:
        for instance in self.all_instances():
            machine = self.world.machine(instance.id)
            if machine is not None and machine.is_up:
                self._apply_groups_to(instance, machine)

    def _apply_groups_naming(self, newcomer: Any) -> None:
        """Machines whose rules name a group that the newcomer is in let it in."""
        own = set(_groups_of(newcomer))
        for instance in self.all_instances():
            machine = self.world.machine(instance.id)
            if instance is newcomer or machine is None or not machine.is_up:
                continue
            if own & {named for group in _groups_of(instance).values() for named in _named_by(group)}:
                self._apply_groups_to(instance, machine)

    def _apply_groups_to(self, instance: Any, machine: Machine) -> None:
        if self.world.network is None:
            return
        allowed = []
        for group in _groups_of(instance).values():
            for rule in group.ingress_rules:
                protocol = (rule.ip_protocol or "-1", *_ports(rule))
                if "CidrIp" in rule.ip_range:
                    allowed.append((*protocol, rule.ip_range["CidrIp"]))
                if rule.source_group:
                    allowed += [
                        (*protocol, f"{address}/32")
                        for address in self._addresses_in(rule.source_group.get("GroupId", ""))
                    ]
        self.world.network.allow_inbound(machine.number, allowed)

    def _addresses_in(self, group_id: str) -> list[str]:
        """Private addresses of the machines that are in the group."""
        return [
            str(instance.private_ip)
            for instance in self.all_instances()
            if instance._state.name in {"pending", "running"} and group_id in _groups_of(instance)
        ]


def _groups_of(instance: Any) -> dict[str, Any]:
    """By id, those of the instance and of its network interfaces."""
    groups = {group.id: group for group in instance.security_groups}
    for nic in instance.nics.values():
        groups.update({group.id: group for group in nic.group_set})
    return groups


def _named_by(group: Any) -> list[str]:
    return [rule.source_group["GroupId"] for rule in group.ingress_rules if rule.source_group.get("GroupId")]


def _ports(rule: Any) -> tuple[int, int]:
    if rule.from_port is None or int(rule.from_port) < 0:
        return 0, 65535
    return int(rule.from_port), int(rule.to_port)
