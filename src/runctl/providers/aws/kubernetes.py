"""How AWS's machines, volumes and buckets appear in a cluster: EKS with node groups, Karpenter or Auto Mode."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from runctl.core.errors import NotFound
from runctl.core.machine_models import Market
from runctl.providers.abilities.kubernetes import CheckpointCarrier, Kubernetes, NodeTypes
from runctl.providers.aws.calls.errors import raising_our_errors
from runctl.providers.aws.context import AwsContext
from runctl.providers.aws.ec2.images import InstanceType, describe_instance_types
from runctl.providers.aws.ec2.type_choice import fitting_types, needs_text
from runctl.providers.capacity import Needs


@raising_our_errors
class AwsKubernetes(Kubernetes):
    """The EBS CSI driver, the labels of EC2's nodes, and the AWS command line for S3."""

    volume_driver = "ebs.csi.aws.com"
    # Karpenter and EKS Auto Mode; managed node groups (EKS user guide, "Managed node groups").
    spot_labels = (("karpenter.sh/capacity-type", "spot"), ("eks.amazonaws.com/capacityType", "SPOT"))
    pod_annotations = (
        ("karpenter.sh/do-not-disrupt", "true"),
        ("cluster-autoscaler.kubernetes.io/safe-to-evict", "false"),
    )
    carrier = CheckpointCarrier(
        "public.ecr.aws/aws-cli/aws-cli:2.32.9",
        Path(__file__).with_name("carry_checkpoints.sh").read_text(encoding="utf-8"),
    )

    def __init__(self, context: AwsContext) -> None:
        self._context = context

    def types_with(self, needs: Needs, market: Market) -> NodeTypes:
        """See `Kubernetes.types_with`."""
        found = fitting_types(self._context, needs, market)
        if not found:
            raise NotFound(
                f"{self._context.session.region} has no instance type with {needs_text(needs)}",
                hint="ask for less, or another region",
            )
        return _node_types(found)

    def types_named(self, names: Sequence[str]) -> NodeTypes:
        """See `Kubernetes.types_named`."""
        found = describe_instance_types(self._context.session, tuple(dict.fromkeys(names)))
        return _node_types(found)


def _node_types(found: Sequence[InstanceType]) -> NodeTypes:
    return NodeTypes(tuple(sorted(each.name for each in found)), min(each.gpu_count for each in found))
