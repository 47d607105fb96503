"""Names of raw columns, and of paths into their nested values."""

from __future__ import annotations

import re
from collections.abc import Collection
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
