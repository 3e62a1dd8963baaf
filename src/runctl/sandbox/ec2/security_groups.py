"""Security groups whose rules are the machines' firewalls."""

from __future__ import annotations

from typing import Any

from runctl.sandbox.ec2.embodied import Embodied
from runctl.sandbox.machines.machine import Machine


class SecurityGroups(Embodied):
    """What a group lets in, its machines let in."""

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

    def _apply_groups(self) -> None:
        for instance in self.all_instances():
            machine = self.world.machine(instance.id)
            if machine is not None and machine.is_up:
                self._apply_groups_to(instance, machine)

    def _apply_groups_to(self, instance: Any, machine: Machine) -> None:
        if self.world.network is None:
            return
        allowed = []
        groups = {group.id: group for group in instance.security_groups}
        for nic in instance.nics.values():
            groups.update({group.id: group for group in nic.group_set})
        for group in groups.values():
            for rule in group.ingress_rules:
                if "CidrIp" in rule.ip_range:
                    allowed.append((rule.ip_protocol or "-1", *_ports(rule), rule.ip_range["CidrIp"]))
        self.world.network.allow_inbound(machine.number, allowed)


def _ports(rule: Any) -> tuple[int, int]:
    if rule.from_port is None or int(rule.from_port) < 0:
        return 0, 65535
    return int(rule.from_port), int(rule.to_port)
