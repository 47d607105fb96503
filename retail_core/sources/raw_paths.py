"""Names of raw columns, and of paths into their nested values."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from functools import lru_cache


def has_column(name: str, header: Collection[str]) -> bool:
    """Whether `header` has the column, or for a path such as `items[0].price` its first part."""
    return name in header or path_root(name) in header


@lru_cache(4_096)
def path_root(name: str) -> str:
    """The column that a path begins with.

    >>> path_root("properties.products[].price"), path_root("price")
    ('properties', 'price')
    """
    return re.split(r"[.\[]", name, maxsplit=1)[0]


def names_by_folded_case(
    names: Iterable[str], forms: Iterable[tuple[str, ...]], header: Iterable[str]
) -> dict[str, str]:
    """The name by its text without letter case; of several those written like the form that `header` has.

    >>> names_by_folded_case(["Name", "name", "Paid at"], [("items",), ("Name",)], ["NAME", "PAID AT"])
    {'name': 'Name', 'paid at': 'Paid at'}
    """
    folded_header = {name.casefold() for name in header}
    form = next((form for form in forms if {name.casefold() for name in form} <= folded_header), ())
    capitalised = any(name[:1].isupper() for name in form)
    by_folded: dict[str, str] = {}
    for name in sorted(names, key=lambda name: (name not in form, name[:1].isupper() != capitalised)):
        by_folded.setdefault(name.casefold(), name)
    return by_folded
