"""Shops whose homes share one MongoDB and one lake, for tests that kill commands and damage files."""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path

from retail_core import sources
from retail_core.ingest import ingest
from retail_core.settings import Settings
from retail_core.store.mongo.connection import Store

START = datetime(2025, 1, 1, tzinfo=UTC)
AT = datetime(2025, 3, 1, tzinfo=UTC)
DAYS = 3
"""Few days, so that files of a day are soon merged."""

EVENT_TYPES = ("view_item", "view_item", "search", "add_to_cart", "purchase")
HEADER = "user_id,anonymous_id,event_time,event_type,item_id,price,currency"
USER_MAPPING = "name: shop_users\ncolumns: {user_id: id}\nvalid_from: since\nattributes: {age: number}\n"


@dataclass(frozen=True)
class FaultShop:
    """Homes below one folder, with one database and one lake there.

    Attributes:
        folder: exists.
        mongodb_uri: of the server.
        database: of the shop.
        rows: events of each file.
    """

    folder: Path
    mongodb_uri: str
    database: str
    rows: int = 500

    def home(self, name: str = "a") -> Path:
        """One of the homes."""
        return self.folder / f"home-{name}"

    @property
    def settings(self) -> Settings:
        """Settings of the home `a`."""
        return Settings(
            home=self.home(),
            mongodb_uri=self.mongodb_uri,
            mongodb_database=self.database,
            lake=str(self.folder / "lake"),
        )

    @property
    def variables(self) -> dict[str, str]:
        """The settings that the homes share, as environment variables."""
        return {
            "RETAIL_MONGODB_URI": self.mongodb_uri,
            "RETAIL_MONGODB_DATABASE": self.database,
            "RETAIL_LAKE": str(self.folder / "lake"),
        }

    @cached_property
    def _user_mapping(self) -> Path:
        path = self.folder / "users.yaml"
        path.write_text(USER_MAPPING)
        return path

    def event_file(self, name: str, seed: str) -> Path:
        """A file of random events of 40 users; some have an anonymous id, which links it."""
        generator, path = random.Random(seed), self.folder / f"{name}.csv"
        lines = [HEADER]
        for _ in range(self.rows):
            user = f"u{generator.randrange(40)}"
            anonymous = f"a{generator.randrange(10_000)}" if generator.random() < 0.02 else ""
            time = START + timedelta(milliseconds=generator.randrange(DAYS * 86_400_000))
            kind, item = generator.choice(EVENT_TYPES), f"i{generator.randrange(50)}"
            price = f"{generator.randrange(1, 99)}.00"
            lines.append(f"{user},{anonymous},{time:%Y-%m-%dT%H:%M:%S.%fZ},{kind},{item},{price},EUR")
        path.write_text("\n".join(lines) + "\n")
        return path

    def user_file(self, name: str, seed: str) -> Path:
        """A file of attributes of some users."""
        generator, path = random.Random(seed), self.folder / f"{name}-users.csv"
        rows = [
            f"u{user},2025-01-0{generator.randint(1, 9)},{generator.randint(18, 80)}" for user in range(5)
        ]
        path.write_text("\n".join(["id,since,age", *rows]) + "\n")
        return path

    def add_windows(self, store: Store, name: str, seed: str) -> Path:
        """Ingest a file of events and one of attributes, without synchronizing; returns the former."""
        events = self.event_file(name, seed)
        ingest(store, [events], sources.get_preset("canonical"), at=AT)
        users = sources.from_mapping(self._user_mapping)
        ingest(store, [self.user_file(name, seed)], users, timezone="UTC", at=AT)
        return events
