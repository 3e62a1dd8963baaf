"""The use case ``export terraform``: what runctl has made, as a configuration that Terraform takes over as it is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from runctl._dataclasses import dataclass
from runctl.cleanup.listing import Selection, select
from runctl.cleanup.overview import Account
from runctl.core.errors import Unsupported
from runctl.export.hcl import block, comment, header
from runctl.providers.abilities.inventory import Unread
from runctl.providers.abilities.terraform import Block, LeftOut, Reference, TerraformModule, TerraformResource
from runctl.providers.interface import require

if TYPE_CHECKING:
    from runctl.core.clock import Clock
    from runctl.machines.session import Session

REQUIRED_VERSION = ">= 1.5"
"""Import blocks came with it."""


@dataclass(frozen=True)
class TerraformExported:
    """A configuration, and what is not in it."""

    text: str
    """Of one file."""
    imports: int
    left_out: tuple[LeftOut, ...]
    unread: tuple[Unread, ...]
    """What could not be read, though it may be there."""


def export_terraform(
    session: Session,
    selection: Selection | None = None,
    *,
    provider: str | None = None,
    everyone: bool = False,
    clock: Clock | None = None,
) -> TerraformExported:
    """What runctl has made, the caller's own and what all share, as Terraform's resources with their imports.

    Nothing is changed. The same account gives the same bytes. Raises `Unsupported` where ``provider`` has no resources
    in Terraform, and what `runctl.cleanup.listing.list_all` raises.
    """
    if provider is not None:
        require(session.provider(provider).terraform)
    account = Account(session, provider=provider, clock=clock)
    resources = list(account.listing.resources) if everyone else account.own()
    chosen = select(resources, selection or Selection(), account.now)
    modules, left_out = [], []
    for name in sorted({each.provider for each in chosen}):
        own = [each for each in chosen if each.provider == name]
        ability = session.provider(name).terraform
        if isinstance(ability, Unsupported):
            left_out += [LeftOut(f"{each.label} ({name})", ability.message) for each in own]
            continue
        modules.append(ability.module(own, session.progress))
    unread = (*account.listing.unread, *(each for module in modules for each in module.unread))
    left_out += [each for module in modules for each in module.left_out]
    return TerraformExported(
        text=configuration(modules, left_out, unread),
        imports=sum(len(module.resources) for module in modules),
        left_out=tuple(left_out),
        unread=unread,
    )


def configuration(
    modules: Sequence[TerraformModule], left_out: Sequence[LeftOut], unread: Sequence[Unread]
) -> str:
    """The file. Pure."""
    parts = [_head(sum(len(module.resources) for module in modules), left_out, unread)]
    if modules:
        required = {module.name: {"source": module.source, "version": module.version} for module in modules}
        body = {"required_version": REQUIRED_VERSION, "required_providers": Block(required)}
        parts.append(block("terraform", body))
    for module in modules:
        parts += _providers(module)
        for resource in module.resources:
            parts += _resource(module, resource)
    return "\n\n".join(parts) + "\n"


def _head(imports: int, left_out: Sequence[LeftOut], unread: Sequence[Unread]) -> str:
    lines = [
        "What runctl has made, for Terraform to take over as it is:",
        "",
        "  terraform init",
        f"  terraform plan    # {imports} to import, 0 to add, 0 to change, 0 to destroy",
        "  terraform apply",
    ]
    if left_out:
        lines += ["", "Not in here:", *(f"  {each.label}: {each.reason}" for each in left_out)]
    if unread:
        lines += ["", "Could not be read, and is not in here:"]
        lines += [
            f"  {each.what}{f' in {each.region}' if each.region else ''}: {each.reason}" for each in unread
        ]
    return comment("\n".join(lines))


def _providers(module: TerraformModule) -> Iterator[str]:
    head = header("provider", module.name)
    yield block(head, {"region": module.region} if module.region else {})
    others = {each.region for each in module.resources} - {module.region, None}
    for region in sorted(filter(None, others)):
        yield block(head, {"alias": _alias(region), "region": region})


def _alias(region: str) -> str:
    return region.replace("-", "_")


def _resource(module: TerraformModule, resource: TerraformResource) -> Iterator[str]:
    yield block("import", {"to": Reference(resource.address), "id": resource.import_id})
    body = dict(resource.body)
    if resource.region is not None and resource.region != module.region:
        body = {"provider": Reference(f"{module.name}.{_alias(resource.region)}"), **body}
    written = block(header("resource", resource.type, resource.label), body)
    yield f"{comment(resource.comment)}\n{written}" if resource.comment else written
