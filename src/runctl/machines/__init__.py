"""Machines and what belongs to them are rented, waited for, taken up again and given back here."""
