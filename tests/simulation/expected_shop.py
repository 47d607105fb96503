"""What the shop should contain: a model of files, requests, removals and erasures in plain Python."""

from __future__ import annotations

import random
from collections import defaultdict
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

START = datetime(2025, 1, 1, tzinfo=UTC)
USERS = tuple(f"user-{number:02d}-of-the-shop" for number in range(12))
"""Long, so that a search for an id finds nothing else."""

_TYPES = ("view_item", "view_item", "view_item", "search", "add_to_cart", "purchase")
_REFUSED = (("", "2025-01-02T10:00:00Z"), (USERS[0], "yesterday"), (USERS[1], "2025-13-40T10:00:00Z"))
"""User and time of rows that are refused."""


class Row(NamedTuple):
    """An event as a file or a request has it; no two events of one user have the same time."""

    user: str
    time: datetime
    kind: str
    item: str
    price: str

    def fields(self) -> dict[str, str]:
        """Canonical fields."""
        return {
            "user_id": self.user,
            "event_time": f"{self.time:%Y-%m-%dT%H:%M:%S}.{self.time.microsecond // 1000:03d}Z",
            "event_type": self.kind,
            "item_id": self.item,
            "price": self.price,
            "currency": "EUR",
        }


@dataclass(frozen=True)
class Delivery:
    """Rows that arrive together, in the order of arrival.

    Attributes:
        name: of the file or request.
        rows: valid rows; some of them several times, or delivered before.
        refused: fields of rows that are no events.
    """

    name: str
    rows: tuple[Row, ...]
    refused: tuple[dict[str, str], ...]

    @property
    def lines(self) -> list[dict[str, str]]:
        """Fields of all rows; the refused ones are spread among the others."""
        lines = [row.fields() for row in self.rows]
        for number, fields in enumerate(self.refused):
            lines.insert(number * 7 % (len(lines) + 1), fields)
        return lines


@dataclass
class ExpectedShop:
    """Deliveries so far and what of them is stored.

    Attributes:
        bringers: for each stored event the deliveries that contain it.
        erased: users who were erased and have not come back.
        champions: versions in production in order of time, without those that were rolled back.
    """

    bringers: dict[Row, set[str]] = field(default_factory=lambda: defaultdict(set))
    erased: set[str] = field(default_factory=set)
    champions: list[str] = field(default_factory=lambda: ["1"])

    def events(self) -> set[Row]:
        """Every event that is stored."""
        return {row for row, names in self.bringers.items() if names}

    def add(self, delivery: Delivery) -> None:
        """A delivery was stored."""
        for row in delivery.rows:
            self.bringers[row].add(delivery.name)
        self.erased -= {fields["user_id"] for fields in delivery.lines}

    def remove(self, name: str) -> None:
        """A file was undone."""
        for names in self.bringers.values():
            names.discard(name)

    def erase(self, user: str) -> None:
        """A user was erased."""
        for row in [row for row in self.bringers if row.user == user]:
            del self.bringers[row]
        self.erased.add(user)


def make_delivery(generator: random.Random, shop: ExpectedShop, name: str, day: int) -> Delivery:
    """New events of the day, late ones, copies of stored ones, rows twice, refused rows; in any order."""
    rows = [_new_row(generator, day) for _ in range(generator.randint(3, 40))]
    stored = sorted(shop.events())
    rows += generator.sample(stored, min(len(stored), generator.choice((0, 0, 3, 8))))
    rows += generator.sample(rows, min(len(rows), generator.choice((0, 0, 2))))
    generator.shuffle(rows)
    refused = tuple(
        {**_new_row(generator, day).fields(), "user_id": user, "event_time": time}
        for user, time in generator.sample(_REFUSED, generator.choice((0, 0, 1, 2)))
    )
    return Delivery(name, tuple(rows), refused)


def _new_row(generator: random.Random, day: int) -> Row:
    late = generator.choice((0,) * 8 + (1, 5))
    moment = timedelta(days=max(0, day - late), milliseconds=generator.randrange(86_400_000))
    kind = generator.choice(_TYPES)
    price = f"{generator.randint(1, 90)}.50" if kind == "purchase" else ""
    return Row(generator.choice(USERS), START + moment, kind, f"i{generator.randrange(20)}", price)
