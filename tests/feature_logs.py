"""Small logs for feature tests: a lake in a folder, and a Hypothesis strategy for events with edge cases."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import strategies as st

from retail_core.attribution import Link
from retail_core.features.event_columns import OnlineEvent
from retail_core.schemas import EVENT_ARROW, EVENT_TYPES
from retail_core.times import from_micros

MS = 1_000
MINUTE = 60_000 * MS
HOUR = 60 * MINUTE
DAY = 24 * HOUR


@dataclass(frozen=True)
class FolderLake:
    """A lake of one Parquet file of events and, optionally, one of user attributes."""

    events: Path
    users: Path | None = None
    links: Path | None = None

    def files(self, start: datetime | None = None, end: datetime | None = None) -> list[str]:
        return [str(self.events)]

    def snapshot(self) -> FolderLake:
        return self

    def users_file(self) -> str | None:
        return None if self.users is None else str(self.users)

    def identities_file(self) -> str | None:
        return None if self.links is None else str(self.links)


LINKS_ARROW = pa.schema(
    [("from_id", pa.string()), ("to_id", pa.string()), ("linked_at", pa.timestamp("us", tz="UTC"))]
)


def with_links(lake: FolderLake, links: Iterable[Link]) -> FolderLake:
    """The same lake with identity links."""
    path = lake.events.with_suffix(f".links{next(_numbers)}")
    rows = [{**link._asdict(), "linked_at": from_micros(link.linked_at)} for link in links]
    pq.write_table(pa.Table.from_pylist(rows, schema=LINKS_ARROW), path)
    return replace(lake, links=path)


_numbers = itertools.count()


def write_lake(
    folder: Path, events: Iterable[OnlineEvent], users: Sequence[Mapping[str, object]] | None = None
) -> FolderLake:
    """A lake of these events, each event_id once, as in the real lake."""
    unique = {event.event_id: event for event in events}.values()
    rows = [{**event._asdict(), "event_time": from_micros(event.event_time)} for event in unique]
    folder.mkdir(exist_ok=True)
    path = folder / f"events-{next(_numbers)}.parquet"
    pq.write_table(pa.Table.from_pylist(rows, schema=EVENT_ARROW), path)
    if users is None:
        return FolderLake(path)
    schema = pa.schema(
        [("user_id", pa.string()), ("valid_from", pa.timestamp("us", tz="UTC")), ("attributes", pa.string())]
    )
    pq.write_table(pa.Table.from_pylist(list(users), schema=schema), path.with_suffix(".users"))
    return FolderLake(path, path.with_suffix(".users"))


def pairs_of(pairs: Iterable[tuple[str, int]]) -> pd.DataFrame:
    """Pairs of (user, microseconds), each once."""
    unique = list(dict.fromkeys(pairs))
    as_of = pd.to_datetime(pd.Series([t for _, t in unique], dtype="int64"), unit="us", utc=True)
    users = pd.Series([user for user, _ in unique], dtype="str")
    return pd.DataFrame({"user_id": users, "as_of": as_of.dt.as_unit("ms")})


def micros(text: str) -> int:
    """An ISO instant as microseconds."""
    return (datetime.fromisoformat(text).astimezone(UTC) - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(
        microseconds=1
    )


@st.composite
def logs(draw: st.DrawFn, base: int, days: int, max_size: int = 60) -> list[OnlineEvent]:
    """Events of three users around `base`: ties, boundary instants, null items and prices, refunds.

    Times are few distinct instants: window lengths and session gaps before `base`, and a millisecond off
    them, so that every comparison is tested on both sides and at equality.
    """
    lengths = [HOUR, 6 * HOUR, DAY, 3 * DAY, 7 * DAY, days * DAY, 30 * MINUTE, 29 * MINUTE]
    offset = st.one_of(
        st.builds(
            lambda length, times, ms: length * times + ms * MS,
            st.sampled_from(lengths),
            st.integers(0, 4),
            st.integers(-1, 1),
        ),
        st.integers(-DAY // MS, (days + 2) * DAY // MS).map(lambda ms: ms * MS),
    )
    instants = draw(st.lists(offset, min_size=1, max_size=25))
    types = st.sampled_from(
        [*EVENT_TYPES, "add_to_cart", "purchase", "add_to_cart", "remove_from_cart", "odd"]
    )
    events = draw(
        st.lists(
            st.builds(
                lambda user, back, kind, item, price, quantity, order: (
                    user, base - back, kind, item, None if item is None else f"c{ord(item) % 2}",
                    price, quantity, order,
                ),
                st.sampled_from("uvw"),
                st.sampled_from(instants),
                types,
                st.sampled_from([None, "a", "b", "c"]),
                st.sampled_from([None, 0, 199, 10**13]),
                st.sampled_from([None, 0, 1, 3, 10**7]),
                st.sampled_from([None, None, "o1", "o2"]),
            ),
            max_size=max_size,
        )
    )  # fmt: skip
    return [
        OnlineEvent(f"{i:032x}", user, ts, kind, item, category, None, price, quantity, order)
        for i, (user, ts, kind, item, category, price, quantity, order) in enumerate(events)
    ]
