"""What a provider can say of its resources in Terraform's terms: their blocks, and how they are imported."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

from runctl._dataclasses import dataclass
from runctl.core.progress import SILENT, Progress
from runctl.providers.abilities.inventory import Resource, Unread


@dataclass(frozen=True)
class Reference:
    """Another part of the configuration, which has to be there first: ``aws_ebs_volume.datasets.id``."""

    path: str


@dataclass(frozen=True)
class Json:
    """A document that is written as ``jsonencode(…)``, in the language's own form."""

    document: object


@dataclass(frozen=True)
class Block:
    """One nested block."""

    body: Body


Body = Mapping[str, object]
"""Arguments by name, in the order in which they are written: texts, numbers, truth values, sequences, mappings,
`Reference`, `Json`; or a `Block`, or a tuple of blocks."""


@dataclass(frozen=True)
class TerraformResource:
    """One ``resource`` block, and the ``import`` block that ties it to what exists."""

    type: str
    """Such as ``aws_ebs_volume``."""
    label: str
    """Unique among those of its type."""
    import_id: str
    body: Body
    region: str | None = None
    """``None``: it belongs to the account, and the default configuration of the provider is as good as any."""
    comment: str = ""
    """What a reader must know of it."""

    @property
    def address(self) -> str:
        """Such as ``aws_ebs_volume.datasets``."""
        return f"{self.type}.{self.label}"


@dataclass(frozen=True)
class LeftOut:
    """What runctl has made, and Terraform is not told of."""

    label: str
    """Such as ``instance i-0abc``."""
    reason: str


@dataclass(frozen=True)
class TerraformModule:
    """What is written of one provider."""

    name: str
    """Terraform's own name of the provider: ``aws``."""
    source: str
    version: str
    """A constraint."""
    region: str | None
    """The default configuration's."""
    resources: tuple[TerraformResource, ...]
    left_out: tuple[LeftOut, ...] = ()
    unread: tuple[Unread, ...] = ()
    """What could not be read, though it is there."""


class TerraformExport(ABC):
    """The ability to say what Terraform must be told of resources, so that it takes them over as they are."""

    @abstractmethod
    def module(self, resources: Sequence[Resource], progress: Progress = SILENT) -> TerraformModule:
        """The resources as Terraform's provider would have them, in the same order every time.

        What changes by itself (the members of a group, a request that passes) and what Terraform has no resource for is
        in ``left_out`` with the reason. Never raises for one resource that cannot be read: that is in ``unread``.
        """
