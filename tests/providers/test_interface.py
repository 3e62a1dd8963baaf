"""The provider's interface itself."""

from __future__ import annotations

from runctl.core.errors import Unsupported
from runctl.providers.abilities import lazy_ability


def test_an_ability_is_made_when_it_is_first_asked_for_and_may_be_another() -> None:
    made: list[object] = []

    class Sells:
        @lazy_ability
        def renting(self) -> object:
            """Machines are rented."""
            made.append(object())
            return made[-1]

    shop, other = Sells(), Sells()
    assert made == []
    assert shop.renting is shop.renting is made[0]
    assert other.renting is made[1]
    shop.renting = Unsupported("closed")
    assert isinstance(shop.renting, Unsupported)
    assert Sells.renting.__doc__ == "Machines are rented."
