"""``runctl offers``: what machines cost, everywhere that they can be rented."""

from __future__ import annotations

import sys
from dataclasses import replace

import click

from runctl.cli.context import Cli
from runctl.cli.framework.commands import Command
from runctl.cli.framework.values import COUNT, GIB
from runctl.cli.machines.capacity_options import GB, Gpu, GpuNeed
from runctl.core.clock import SystemClock
from runctl.core.errors import CapacityError, CredentialsError, RunctlError, Unsupported
from runctl.core.machine_models import Market
from runctl.core.names import did_you_mean
from runctl.providers.abilities.catalogue import OfferQuery, UnreadRegion
from runctl.providers.capacity import Needs

EVERYWHERE = "all"
SHOWN = 30


@click.command(
    "offers",
    cls=Command,
    examples=[
        ("runctl offers --gpu A100 --spot", "spot machines with an A100, in every region"),
        ("runctl offers --gpu A10G:4 --region us-east-1,us-west-2", "with four, in two regions"),
        ("runctl offers --gpu-memory 40 --spot --sort price-per-gpu", "the cheapest GPU with 40 GB"),
        ("runctl offers --cpus 16 --memory 64", "without a GPU"),
    ],
)
@click.option("--gpu", type=Gpu(), metavar="MODEL[:N]", help="With these GPUs, such as A100:8.")
@click.option(
    "--gpu-memory", type=GB, metavar="GB", help="With GPUs that have at least this much memory each."
)
@click.option("--cpus", type=COUNT, metavar="N", help="With at least this many vCPUs.")
@click.option("--memory", type=GIB, metavar="GIB", help="With at least this much memory.")
@click.option("--spot", is_flag=True, help="Spot machines, with the price of each zone.")
@click.option(
    "--provider",
    "providers",
    metavar="NAME",
    default=EVERYWHERE,
    show_default=True,
    help="Ask this provider only; several with commas.",
)
@click.option(
    "--sort",
    type=click.Choice(["price", "price-per-gpu"]),
    default="price",
    show_default=True,
    help="What comes first.",
)
@click.option(
    "--limit", type=COUNT, metavar="N", help=f"Show at most N offers (default: {SHOWN}; with json all)."
)
@click.pass_obj
def offers(
    cli: Cli,
    gpu: GpuNeed | None,
    gpu_memory: int | None,
    cpus: int | None,
    memory: int | None,
    spot: bool,
    providers: str,
    sort: str,
    limit: int | None,
) -> None:
    """Show what machines cost, wherever they can be rented.

    The cheapest comes first. Asks every region that the account may use, in parallel; --region names one, or several
    with commas. The score is the provider's, from 1 to 10: how likely you are to get a spot machine. The age is the
    price's; answers are cached for ten minutes.
    """
    from runctl.machines.offers import SortKey, find_offers, known_gpus
    from runctl.render.offers import offers_document, offers_table, together, unread_text
    from runctl.render.tables import screen_of

    regions = _list(cli.settings.region)
    # Each provider is asked for all of its regions: none is the session's own.
    cli.settings = replace(cli.settings, region=None)
    query = OfferQuery(
        Needs(
            gpu=gpu.model if gpu else None,
            gpu_count=gpu.number if gpu else None,
            gpu_memory_gb=gpu_memory,
            cpus=cpus,
            memory_gib=memory,
        ),
        Market.SPOT if spot else Market.ON_DEMAND,
        regions,
    )
    found = find_offers(cli.session, query, providers=_list(providers), sort=SortKey(sort))
    told = together(found.unread)
    reason = None if found.offers else next(filter(_may_have_it, told), None)
    for unread in told:
        # Who has no account with a provider need not be warned each time; what is the error is said once.
        if unread is not reason:
            (cli.progress.note if _is_nobodys(unread) else cli.progress.warn)(unread_text(unread))
    if not found.offers:
        hint = ""
        if query.needs.gpu is not None:
            gpus = known_gpus(cli.session, query, providers=_list(providers))
            if gpus and query.needs.gpu.lower() not in {each.lower() for each in gpus}:
                hint = did_you_mean(query.needs.gpu, gpus) or f"there are {', '.join(gpus)}"
        if reason is not None:
            # What was read has nothing, and what was not may have it.
            raise Unread(reason, unread_text(replace(reason, hint="")), hint or reason.hint)
        raise CapacityError(
            "no provider rents a machine with all of that", hint=hint or "ask for less, or other regions"
        )
    for note in found.notes:
        cli.progress.note(note)
    shown = found.offers[: limit or (len(found.offers) if cli.settings.json else SHOWN)]
    if cli.settings.json:
        cli.emit(offers_document(replace(found, offers=shown)), text=str)
        return
    now = SystemClock().now()
    cli.emit(
        shown,
        text=lambda: offers_table(shown, now, screen=screen_of(sys.stdout)),
        ids=[offer.instance_type for offer in shown],
    )
    if sort == SortKey.PRICE_PER_GPU and all(offer.usd_per_gpu is None for offer in found.offers):
        cli.progress.note(
            "none of these has a GPU, so that --sort price-per-gpu changes nothing: --gpu MODEL"
        )
    if len(shown) < len(found.offers):
        higher = "at no lower prices" + (" per GPU" if sort == SortKey.PRICE_PER_GPU else "")
        cli.progress.note(f"{len(found.offers) - len(shown)} more, {higher}: --limit {len(found.offers)}")


class Unread(RunctlError):
    """Nothing is offered as far as could be read: the first reason, with its own code."""

    def __init__(self, unread: UnreadRegion, message: str, hint: str) -> None:
        super().__init__(message, hint=hint, code=unread.code or None)
        self.exit_code = unread.exit_code


def _is_nobodys(unread: UnreadRegion) -> bool:
    """Whether it is a provider with which this computer has no account."""
    return unread.region is None and unread.code == CredentialsError.code


def _may_have_it(unread: UnreadRegion) -> bool:
    """Whether what was asked for may be there, although it was not seen."""
    return not _is_nobodys(unread) and unread.code != Unsupported.code


def _list(text: str | None) -> tuple[str, ...] | None:
    """What is between the commas; ``None`` for all."""
    names = tuple(name.strip() for name in (text or EVERYWHERE).split(",") if name.strip())
    return None if EVERYWHERE in names or not names else names
