"""Persons instead of ids in queries over many users: which ids' events belong to the user of a row.

Built on `retail_core.attribution`, which the service uses for single users. Without links queries do not
change.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import ibis
import numpy as np
import pandas as pd
import pyarrow
from ibis.expr.types import Table
from pyarrow import parquet

from retail_core.arrays import IntVector
from retail_core.attribution import MAX_TIME, MIN_TIME, Identities, Link, resolve
from retail_core.features.engine.query_engine import LakeReader, QueryEngine
from retail_core.store.lake.location import open_url

_CACHED = 4
_cache: dict[str, Persons | None] = {}

ATTRIBUTIONS_ARROW = pyarrow.schema(
    [
        ("linked_id", pyarrow.string()),
        ("known_from", pyarrow.int64()),
        ("known_until", pyarrow.int64()),
        ("owned_from", pyarrow.int64()),
        ("owned_until", pyarrow.int64()),
        ("person", pyarrow.string()),
    ]
)
"""Fields of `identities.Attribution`, under names that do not collide with those of events."""

_PERIOD_COLUMNS = ["uid", "user_id", "owned_from", "owned_until"]


@dataclass(frozen=True)
class PersonHistories:
    """Which events belong to the rows of a table of (user, cut-off).

    Attributes:
        uid: number of the history of each row, shape (rows,).
        users: `uid`, `user_id`; where ids are linked also `owned_from`, `owned_until`: events of the id in
            [owned_from, owned_until) belong to the history.
    """

    uid: IntVector
    users: pyarrow.Table

    @property
    def has_periods(self) -> bool:
        """Whether ids are linked."""
        return "owned_from" in self.users.column_names

    def select(self, engine: QueryEngine, events: Table) -> Table:
        """The events of the histories, with `uid`; an event is repeated for each history it belongs to."""
        joined = events.join(engine.table(self.users), "user_id")
        if not self.has_periods:
            return joined
        return joined.filter(joined.ts >= joined.owned_from, joined.ts < joined.owned_until)


def row_histories(
    persons: Persons | None, users: pd.Series[str], as_of: IntVector, lookback_us: int | None = None
) -> PersonHistories:
    """The history of each row.

    Args:
        persons: of the lake; None without links.
        users: id of each row.
        as_of: cut-off of each row, microseconds.
        lookback_us: events before the look-back of all rows of a history are left out; None keeps all.
    """
    if persons is not None:
        histories = persons.histories(users, as_of, lookback_us)
        if histories is not None:
            return histories
    codes, ids = pd.factorize(users)
    table = {"uid": np.arange(len(ids)), "user_id": pyarrow.array(ids, pyarrow.string())}
    return PersonHistories(codes, pyarrow.table(table))


class Persons:
    """The attributions of a lake's links as tables."""

    def __init__(self, identities: Identities) -> None:
        self.identities = identities
        columns = list(zip(*identities.attributions, strict=True))
        names = ATTRIBUTIONS_ARROW.names
        self.table = pyarrow.table(
            [
                pyarrow.array(values, field.type)
                for values, field in zip(columns, ATTRIBUTIONS_ARROW, strict=True)
            ],
            names=names,
        )
        self._frame = self.table.to_pandas()
        self._linked_ids = pd.Index(self._frame["linked_id"].unique())
        self._persons = pd.Index(self._frame["person"].unique())

    def at(self, users: pd.Series[str], event_time: IntVector, as_of: IntVector) -> pd.Series[str]:
        """The person of each row: the owner at `as_of` of an event of the user at `event_time`.

        Both are microseconds, shape (rows,); the result has the index 0 to rows - 1.
        """
        persons = pd.Series(users.to_numpy(object), dtype=object)
        linked = persons.isin(self._linked_ids).to_numpy(bool)
        if linked.any():
            rows = pd.DataFrame(
                {
                    "row": np.flatnonzero(linked),
                    "linked_id": persons[linked].to_numpy(object),
                    "event_time": event_time[linked],
                    "as_of": as_of[linked],
                }
            ).merge(self._frame, on="linked_id")
            is_known = (rows["known_from"] < rows["as_of"]) & (rows["as_of"] <= rows["known_until"])
            is_owned = (rows["owned_from"] <= rows["event_time"]) & (rows["event_time"] < rows["owned_until"])
            rows = rows[is_known & is_owned]
            persons.iloc[rows["row"].to_numpy()] = rows["person"].to_numpy(object)
        return persons.astype("str")

    def histories(
        self, users: pd.Series[str], as_of: IntVector, lookback_us: int | None
    ) -> PersonHistories | None:
        """As `row_histories`; None if no row is of a person with several ids."""
        persons = self.at(users, as_of, as_of)
        has_periods = persons.isin(self._persons).to_numpy(bool)
        if not has_periods.any():
            return None
        codes, _ = pd.factorize(users)
        epochs = np.zeros(len(codes), np.int64)
        epochs[has_periods] = self._epochs(persons[has_periods], as_of[has_periods])
        keys, first_row, uid = np.unique(
            codes * (int(epochs.max()) + 1) + epochs, return_index=True, return_inverse=True
        )
        first, last = np.full(len(keys), MAX_TIME), np.full(len(keys), MIN_TIME)
        np.minimum.at(first, uid, as_of)
        np.maximum.at(last, uid, as_of)
        histories = pd.DataFrame(
            {
                "uid": np.arange(len(keys)),
                "person": persons.to_numpy(object)[first_row],
                "linked": has_periods[first_row],
                "first": first,
                "last": last,
            }
        )
        periods = pd.concat([self._own_periods(histories), self._linked_periods(histories)])
        if lookback_us is not None:
            begin = np.maximum(periods["owned_from"], periods["first"] - lookback_us)
            periods = periods.assign(
                owned_from=begin, owned_until=np.minimum(periods["owned_until"], periods["last"])
            )
        table = pyarrow.Table.from_pandas(periods[_PERIOD_COLUMNS], preserve_index=False)
        return PersonHistories(uid, table.set_column(1, "user_id", table["user_id"].cast(pyarrow.string())))

    def _epochs(self, persons: pd.Series[str], as_of: IntVector) -> IntVector:
        """For each row a number that changes whenever the ids of its person change; no two persons share one.

        It counts the instants before the cut-off at which ids of the person, or of one with a lower code,
        begin or cease to belong to it.
        """
        codes, names = pd.factorize(persons)
        code_of = pd.Series(np.arange(len(names)), index=names)
        attributions = self._frame[self._frame["person"].isin(names)]
        bounds = pd.concat(
            [
                attributions[["person", name]].set_axis(["person", "at"], axis=1)
                for name in ("known_from", "known_until")
            ]
        ).drop_duplicates()
        instants = np.unique(bounds["at"])
        size = len(instants) + 1
        keys = code_of[bounds["person"]].to_numpy() * size + np.searchsorted(instants, bounds["at"])
        return np.searchsorted(np.sort(keys), codes * size + np.searchsorted(instants, as_of))

    def _own_periods(self, histories: pd.DataFrame) -> pd.DataFrame:
        """Events of the person's own id, unless links assign them."""
        unlinked = histories[~histories["person"].isin(self._linked_ids)]
        return unlinked.assign(user_id=unlinked["person"], owned_from=MIN_TIME, owned_until=MAX_TIME)

    def _linked_periods(self, histories: pd.DataFrame) -> pd.DataFrame:
        linked = histories[histories["linked"]].merge(self._frame, on="person")
        is_known = (linked["known_from"] < linked["first"]) & (linked["first"] <= linked["known_until"])
        return linked[is_known].rename(columns={"linked_id": "user_id"})


def read_links_table(lake: LakeReader) -> pyarrow.Table | None:
    """Columns `from_id`, `to_id`, `linked_at` of the lake's links; None without any."""
    path = lake.identities_file()
    if path is None:
        return None
    filesystem, name = open_url(path)
    columns = ["from_id", "to_id", "linked_at"]
    return parquet.read_table(
        name, filesystem=filesystem, columns=columns, partitioning=None, page_checksum_verification=True
    )


def read_persons(lake: LakeReader) -> Persons | None:
    """The persons that the lake's links make; None without links."""
    table = read_links_table(lake)
    if table is None:
        return None
    linked_at = table["linked_at"].cast(pyarrow.timestamp("us", tz="UTC")).cast("int64")
    columns = (table["from_id"].to_pylist(), table["to_id"].to_pylist(), linked_at.to_pylist())
    links = sorted(Link(*values) for values in zip(*columns, strict=True))
    digest = hashlib.blake2b(repr(links).encode()).hexdigest()
    if digest not in _cache:
        while len(_cache) >= _CACHED:
            _cache.pop(next(iter(_cache)), None)
        identities = resolve(links)
        _cache[digest] = Persons(identities) if identities.attributions else None
    return _cache[digest]


def event_owners(engine: QueryEngine, events: Table, persons: Persons) -> Table:
    """`ts` and `person` of events, with the cut-offs in (known_from, known_until] at which it owns them.

    An event of a linked id is repeated for each period of knowledge.
    """
    owners = engine.table(persons.table)
    is_owned = [
        events.user_id == owners.linked_id,
        events.ts >= owners.owned_from,
        events.ts < owners.owned_until,
    ]
    joined = events.select("user_id", "ts").left_join(owners, is_owned)
    return joined.select(
        "ts",
        person=ibis.coalesce(joined.person, joined.user_id),
        known_from=ibis.coalesce(joined.known_from, ibis.literal(MIN_TIME + 1, "int64")),
        known_until=ibis.coalesce(joined.known_until, ibis.literal(MAX_TIME, "int64")),
    )
