"""User attributes as of the cut-off: the latest row of a user with `valid_from <= as_of`.

Rows without `valid_from` cannot be placed in time and are left out, except in `first-visit` pairs,
where they count as known at the first visit, and except for attributes admitted by name. Attributes
are small (rows per user, not per event) and are joined here with pandas.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from datetime import datetime

import numpy as np
import pandas as pd
import pyarrow
from pyarrow import parquet

from retail_core.features.question import Attribute, as_number
from retail_core.features.reader import LakeReader, to_micros

_MIN_USERS_FOR_IDS = 20
_BEGINNING = np.iinfo(np.int64).min

Floats = np.ndarray[tuple[int], np.dtype[np.float64]]


def attributes_at(
    lake: LakeReader, pairs: pd.DataFrame, attributes: Sequence[Attribute]
) -> dict[str, Floats]:
    """One float64 array per attribute column, in the order of `pairs`.

    Args:
        lake: where the users file is; without one every user has no attributes.
        pairs: `user_id`, `as_of`, optionally `policy`.
        attributes: what to encode; a missing number is NaN, a missing category 0 in all its columns.
    """
    rows = _rows(lake)
    dated = _latest(rows, pairs)
    places = {False: dated, True: dated}
    if any(attribute.undated for attribute in attributes):
        places[True] = _latest(rows, pairs, undated=True)
    names = [column for attribute in attributes for column in attribute.columns]
    # The last row of `codes` stands for "no attributes known".
    codes = np.array(
        [[v for a in attributes for v in a.encode(content)] for content in [*rows["content"], {}]], np.float64
    )
    where = [places[attribute.undated] for attribute in attributes for _ in attribute.columns]
    return {name: codes[where[i], i] for i, name in enumerate(names)}


def infer_attributes(
    lake: LakeReader,
    before: datetime,
    max_categories: int = 20,
    *,
    include_undated: bool = False,
    admit: Collection[str] = (),
) -> tuple[Attribute, ...]:
    """Attributes worth a column, from rows known before an instant.

    Numbers where every value is one; else the most frequent categories. Left out: what looks like an
    id (whole numbers or texts that hardly repeat) and attributes with one value only.

    Args:
        lake: where the users file is.
        before: only rows with `valid_from` before it count.
        max_categories: categories with a column of their own.
        include_undated: count rows without `valid_from` too (for `first-visit` rows).
        admit: attributes whose rows without `valid_from` count whatever `include_undated` says.
    """
    rows = _rows(lake)
    rows = rows[rows["valid_from"] < to_micros(before)]
    values: dict[str, list[object]] = {}
    late: set[str] = set()
    for since, content in zip(rows["valid_from"], rows["content"], strict=True):
        undated = since == _BEGINNING and not include_undated
        for name, value in content.items():
            if value is None or isinstance(value, list | dict) or (undated and name not in admit):
                continue
            values.setdefault(name, []).append(value)
            if undated:
                late.add(name)
    found = (_infer(name, values[name], max_categories) for name in sorted(values))
    return tuple(replace(one, undated=one.name in late) for one in found if one is not None)


def attribute_names(lake: LakeReader) -> set[str]:
    """Every attribute that any user has, dated or not."""
    return {name for content in _rows(lake)["content"] for name in content}


def attribute_warnings(lake: LakeReader, admitted: Collection[str] = ()) -> tuple[str, ...]:
    """What a person should know about attributes that were left out; one sentence each.

    Args:
        lake: where the users file is.
        admitted: attributes that were not left out.
    """
    rows = _rows(lake)
    undated = rows[rows["valid_from"] == _BEGINNING]
    names = sorted({name for content in undated["content"] for name in content} - set(admitted))
    if not names:
        return ()
    return (
        f"{len(undated):,} of {len(rows):,} rows of user attributes have no valid_from and cannot be placed "
        f"in time: {', '.join(names)} of these rows are left out, except at a first visit.",
    )


def _rows(lake: LakeReader) -> pd.DataFrame:
    """Users file as user_id, valid_from (microseconds, the beginning of time where null), content (dict)."""
    path = lake.users_file()
    if path is None:
        return pd.DataFrame({"user_id": [], "valid_from": np.empty(0, np.int64), "content": []})
    table = parquet.read_table(path, columns=["user_id", "valid_from", "attributes"])
    since = (
        table.column("valid_from").cast(pyarrow.timestamp("us", tz="UTC")).cast("int64").fill_null(_BEGINNING)
    )
    frame = pd.DataFrame(
        {
            "user_id": table.column("user_id").to_pylist(),
            "valid_from": since.to_numpy(),
            "text": table.column("attributes").to_pylist(),
        }
    )
    # Rows of one user and instant have no order of their own; their text gives them one.
    frame = frame.sort_values(["valid_from", "user_id", "text"], ignore_index=True)
    content = pd.Series([json.loads(text) for text in frame["text"]], index=frame.index, dtype=object)
    return frame.drop(columns="text").assign(content=content)


def _latest(
    rows: pd.DataFrame, pairs: pd.DataFrame, *, undated: bool = False
) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """For every pair the place of its row in `rows`, or len(rows) where there is none."""
    places = np.full(len(pairs), len(rows), np.int64)
    as_of = pairs["as_of"].dt.as_unit("us").astype("int64").to_numpy()
    first_visit = np.full(len(pairs), undated)
    if "policy" in pairs:
        first_visit |= (pairs["policy"] == "first-visit").to_numpy()
    for chosen, dated_only in ((~first_visit, True), (first_visit, False)):
        known = rows[rows["valid_from"] != _BEGINNING] if dated_only else rows
        if not chosen.any() or known.empty:
            continue
        left = pd.DataFrame(
            {
                "user_id": pairs["user_id"].astype("str").array[chosen],
                "at": as_of[chosen],
                "to": np.flatnonzero(chosen),
            }
        )
        right = known.drop(columns="content").assign(place=known.index.to_numpy())
        found = pd.merge_asof(
            left.sort_values("at"),
            right.astype({"user_id": "str"}),
            left_on="at",
            right_on="valid_from",
            by="user_id",
        ).dropna(subset="place")
        places[found["to"].to_numpy()] = found["place"].to_numpy(np.int64)
    return places


def _infer(name: str, values: Sequence[object], max_categories: int) -> Attribute | None:
    distinct = set(values)
    if len(distinct) < 2:
        return None
    numbers = list(_numbers(values))
    if len(numbers) == len(values):
        whole = all(number.is_integer() for number in numbers)
        is_id = whole and len(distinct) == len(values) >= _MIN_USERS_FOR_IDS
        return None if is_id else Attribute(name, "number")
    frequent = Counter(str(value) for value in values).most_common()
    # Equal frequencies in the order of their names, so that the same data give the same columns.
    top = sorted(frequent, key=lambda item: (-item[1], item[0]))[:max_categories]
    if sum(count for _, count in top) * 2 < len(values) or len(distinct) * 2 > len(values):
        return None
    return Attribute(name, "category", tuple(sorted(category for category, _ in top)))


def _numbers(values: Sequence[object]) -> Iterator[float]:
    for value in values:
        number = as_number(value)
        if number is not None:
            yield number
