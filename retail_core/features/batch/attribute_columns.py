"""User attributes as of the cut-off: the latest row of a user with `valid_from <= as_of`.

Rows without `valid_from` have no place in time and are left out, except in `first-visit` pairs, where they
count as known at the first visit, and except for attributes allowed by name. Attributes are small (rows per
user, not per event) and are joined here with pandas.
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

from retail_core.arrays import FloatVector, IntVector
from retail_core.features.engine import LakeReader
from retail_core.features.persons import read_persons, row_histories
from retail_core.features.user_attributes import AttributeEncoding, finite_number
from retail_core.store.lake.location import open_url
from retail_core.times import to_micros

_MIN_USERS_FOR_IDS = 20
_NO_DATE = np.iinfo(np.int64).min
"""`valid_from` of rows without a date, before all others."""


def attribute_columns_as_of(
    lake: LakeReader, pairs: pd.DataFrame, attributes: Sequence[AttributeEncoding]
) -> dict[str, FloatVector]:
    """One float64 array per attribute column, in the order of `pairs`.

    Args:
        lake: where the users file is; without one every user has no attributes.
        pairs: `user_id`, `as_of`, optionally `policy`.
        attributes: what to encode; a missing number is NaN, a missing category 0 in all its columns.
    """
    rows, pairs = _of_persons(lake, _read_users(lake), pairs)
    latest_dated_rows = _latest_rows(rows, pairs)
    row_of_pair = {False: latest_dated_rows, True: latest_dated_rows}
    if any(attribute.undated for attribute in attributes):
        row_of_pair[True] = _latest_rows(rows, pairs, include_undated=True)
    # The last row of `encoded` stands for a user without attributes.
    encoded = np.array(
        [[v for a in attributes for v in a.encode(content)] for content in [*rows["content"], {}]], np.float64
    )
    columns = [(name, attribute.undated) for attribute in attributes for name in attribute.columns]
    return {name: encoded[row_of_pair[undated], i] for i, (name, undated) in enumerate(columns)}


def infer_attributes(
    lake: LakeReader,
    before: datetime,
    max_categories: int = 20,
    *,
    include_undated: bool = False,
    admit: Collection[str] = (),
) -> tuple[AttributeEncoding, ...]:
    """Attributes worth a column, from rows valid before an instant.

    An attribute is a number where every value is one; else its most frequent values are categories. Left
    out: what looks like an id (whole numbers or texts that hardly repeat), and attributes with one value.

    Args:
        lake: where the users file is.
        before: only rows with `valid_from` before it count.
        max_categories: maximum number of categories with a column of their own.
        include_undated: also count rows without `valid_from` (for `first-visit` rows).
        admit: attributes whose rows without `valid_from` count in any case.
    """
    rows = _read_users(lake)
    rows = rows[rows["valid_from"] < to_micros(before)]
    values: dict[str, list[object]] = {}
    admitted_undated: set[str] = set()
    for valid_from, content in zip(rows["valid_from"], rows["content"], strict=True):
        undated = valid_from == _NO_DATE and not include_undated
        for name, value in content.items():
            if value is None or isinstance(value, list | dict) or (undated and name not in admit):
                continue
            values.setdefault(name, []).append(value)
            if undated:
                admitted_undated.add(name)
    encodings = (_infer_encoding(name, values[name], max_categories) for name in sorted(values))
    return tuple(replace(e, undated=e.name in admitted_undated) for e in encodings if e is not None)


def attribute_names(lake: LakeReader) -> set[str]:
    """Every attribute that any user has, dated or not."""
    return {name for content in _read_users(lake)["content"] for name in content}


def attribute_warnings(lake: LakeReader, admitted: Collection[str] = ()) -> tuple[str, ...]:
    """One sentence for users about attributes that were left out because they have no date.

    Args:
        lake: where the users file is.
        admitted: attributes that were not left out.
    """
    rows = _read_users(lake)
    undated = rows[rows["valid_from"] == _NO_DATE]
    names = sorted({name for content in undated["content"] for name in content} - set(admitted))
    if not names:
        return ()
    return (
        f"{len(undated):,} of {len(rows):,} rows of user attributes have no valid_from and cannot be placed "
        f"in time: {', '.join(names)} of these rows are left out, except at a first visit.",
    )


def read_users_table(lake: LakeReader) -> pyarrow.Table | None:
    """Columns `user_id`, `valid_from`, `attributes` of the users file; None without one."""
    path = lake.users_file()
    if path is None:
        return None
    filesystem, name = open_url(path)
    columns = ["user_id", "valid_from", "attributes"]
    return parquet.read_table(
        name, filesystem=filesystem, columns=columns, partitioning=None, page_checksum_verification=True
    )


def _read_users(lake: LakeReader) -> pd.DataFrame:
    """Users file as user_id, valid_from (microseconds, `_NO_DATE` where null), text and content (dict)."""
    table = read_users_table(lake)
    if table is None:
        return pd.DataFrame({"user_id": [], "valid_from": np.empty(0, np.int64), "text": [], "content": []})
    valid_from = table.column("valid_from").cast(pyarrow.timestamp("us", tz="UTC")).cast("int64")
    frame = pd.DataFrame(
        {
            "user_id": table.column("user_id").to_pylist(),
            "valid_from": valid_from.fill_null(_NO_DATE).to_numpy(),
            "text": table.column("attributes").to_pylist(),
        }
    )
    # Rows of one user and instant have no order of their own; their text gives them one.
    frame = frame.sort_values(["valid_from", "user_id", "text"], ignore_index=True)
    content = pd.Series([json.loads(text) for text in frame["text"]], index=frame.index, dtype=object)
    return frame.assign(content=content)


def _of_persons(
    lake: LakeReader, rows: pd.DataFrame, pairs: pd.DataFrame
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Rows and pairs whose `user_id` is the same for all ids of a person; unchanged without links.

    A row without a date belongs to the first person that its id was linked to.
    """
    persons = read_persons(lake)
    if persons is None or rows.empty or pairs.empty:
        return rows, pairs
    as_of = pairs["as_of"].dt.as_unit("us").astype("int64").to_numpy()
    histories = row_histories(persons, pairs["user_id"], as_of)
    if not histories.has_periods:
        return rows, pairs
    owned = rows.merge(histories.users.to_pandas(), on="user_id")
    valid_from = owned["valid_from"]
    owned = owned[(valid_from >= owned["owned_from"]) & (valid_from < owned["owned_until"])]
    owned = owned.assign(user_id=owned["uid"].astype("str")).sort_values(["valid_from", "text"])
    pairs = pairs.assign(user_id=pd.Series(histories.uid, index=pairs.index).astype("str"))
    return owned[list(rows.columns)].reset_index(drop=True), pairs


def _latest_rows(rows: pd.DataFrame, pairs: pd.DataFrame, *, include_undated: bool = False) -> IntVector:
    """For every pair the position of its row in `rows`, or len(rows) where there is none."""
    positions = np.full(len(pairs), len(rows), np.int64)
    as_of = pairs["as_of"].dt.as_unit("us").astype("int64").to_numpy()
    use_undated = np.full(len(pairs), include_undated)
    if "policy" in pairs:
        use_undated |= (pairs["policy"] == "first-visit").to_numpy()
    for mask, dated_only in ((~use_undated, True), (use_undated, False)):
        candidates = rows[rows["valid_from"] != _NO_DATE] if dated_only else rows
        if not mask.any() or candidates.empty:
            continue
        left = pd.DataFrame(
            {
                "user_id": pairs["user_id"].astype("str").array[mask],
                "as_of": as_of[mask],
                "pair": np.flatnonzero(mask),
            }
        )
        right = candidates[["user_id", "valid_from"]].assign(row=candidates.index.to_numpy())
        latest = pd.merge_asof(
            left.sort_values("as_of"),
            right.astype({"user_id": "str"}),
            left_on="as_of",
            right_on="valid_from",
            by="user_id",
        ).dropna(subset="row")
        positions[latest["pair"].to_numpy()] = latest["row"].to_numpy(np.int64)
    return positions


def _infer_encoding(name: str, values: Sequence[object], max_categories: int) -> AttributeEncoding | None:
    distinct = set(values)
    if len(distinct) < 2:
        return None
    numbers = list(_numbers(values))
    if len(numbers) == len(values):
        all_integers = all(number.is_integer() for number in numbers)
        is_id = all_integers and len(distinct) == len(values) >= _MIN_USERS_FOR_IDS
        return None if is_id else AttributeEncoding(name, "number")
    frequent = Counter(str(value) for value in values).most_common()
    # Equal frequencies in the order of their names, so that the same data give the same columns.
    top = sorted(frequent, key=lambda item: (-item[1], item[0]))[:max_categories]
    if sum(count for _, count in top) * 2 < len(values) or len(distinct) * 2 > len(values):
        return None
    return AttributeEncoding(name, "category", tuple(sorted(category for category, _ in top)))


def _numbers(values: Sequence[object]) -> Iterator[float]:
    for value in values:
        number = finite_number(value)
        if number is not None:
            yield number
