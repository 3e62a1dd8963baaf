"""The use case behind ``runctl offers``: what machines cost, everywhere that they can be rented."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from decimal import Decimal
from enum import StrEnum

from runctl._dataclasses import dataclass
from runctl.core.errors import RunctlError, Unsupported
from runctl.machines.session import Session
from runctl.providers import registry
from runctl.providers.abilities.catalogue import MachineOffer, OfferQuery, Offers, UnreadRegion
from runctl.providers.capacity import Needs
from runctl.providers.interface import require

SIDE_BY_SIDE = 8
_LAST = Decimal("Infinity")


class SortKey(StrEnum):
    """What comes first."""

    PRICE = "price"
    PRICE_PER_GPU = "price-per-gpu"


def find_offers(
    session: Session,
    query: OfferQuery,
    *,
    providers: Sequence[str] | None = None,
    sort: SortKey = SortKey.PRICE,
) -> Offers:
    """The offers of these providers (all that rent machines), the cheapest first; providers are asked side by side.

    A provider or region that cannot be read is in `Offers.unread`, and so is a provider that is named and rents nothing
    of that kind: others are left out without a word. Raises the reason where that is all there is, and `NotFound`,
    `Unsupported` for a provider that is named and does not exist, or rents nothing.
    """
    if providers is None:
        names = tuple(name for name in registry.names() if not registry.is_this_computer(name))
    else:
        names = tuple(dict.fromkeys(providers))
        for name in names:
            require(session.provider(name).catalogue)
    with ThreadPoolExecutor(SIDE_BY_SIDE) as pool:
        answers = list(pool.map(lambda name: _ask(session, name, query, named=providers is not None), names))
    failures = [each for each in answers if isinstance(each, _Failure)]
    found = [each.as_unread if isinstance(each, _Failure) else each for each in answers if each is not None]
    if failures and len(failures) == len(found):
        raise failures[0].error
    return Offers(
        sort_offers((offer for each in found for offer in each.offers), sort),
        tuple(unread for each in found for unread in each.unread),
        tuple(note for each in found for note in each.notes),
    )


def known_gpus(
    session: Session, query: OfferQuery, *, providers: Sequence[str] | None = None
) -> tuple[str, ...]:
    """The GPUs that are offered at all where the query asks, by their models. Raises as `find_offers`."""
    with_any = replace(query, needs=Needs(gpu_count=1))
    found = find_offers(session, with_any, providers=providers).offers
    return tuple(sorted({offer.gpu for offer in found if offer.gpu}))


@dataclass(frozen=True)
class _Failure:
    """A provider that could not be asked at all."""

    provider: str
    error: RunctlError

    @property
    def as_unread(self) -> Offers:
        error = self.error
        unread = UnreadRegion(self.provider, None, error.message, error.hint, error.code, error.exit_code)
        return Offers((), (unread,))


def _ask(session: Session, name: str, query: OfferQuery, *, named: bool) -> Offers | _Failure | None:
    """``None``: it rents nothing, or nothing of that kind, and nobody has named it."""
    try:
        catalogue = session.provider(name).catalogue
        if isinstance(catalogue, Unsupported):
            return None
        try:
            return catalogue.offers(query, session.progress)
        except Unsupported as never:
            return _Failure(name, never) if named else None
    except RunctlError as error:
        return _Failure(name, error)


def sort_offers(offers: Iterable[MachineOffer], key: SortKey) -> tuple[MachineOffer, ...]:
    """The cheapest first; of equal ones the likelier to be had. Pure."""

    def order(offer: MachineOffer) -> tuple[Decimal, bool, int, str, str, tuple[str, ...]]:
        per_gpu = offer.usd_per_gpu
        usd = offer.price.usd if key is SortKey.PRICE else (_LAST if per_gpu is None else per_gpu)
        return (
            usd,
            offer.in_stock is False,
            -(offer.score or 0),
            offer.instance_type,
            offer.region or "",
            offer.zones,
        )

    return tuple(sorted(offers, key=order))
