"""Check (c) on features and attributes: are they equal when computed from a lake that ends at the cut-off?"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import pandas as pd
import pyarrow
import pyarrow.compute as pc
from pandera.typing.pandas import DataFrame
from pyarrow import parquet

from retail_core.arrays import BoolArray, Float32Array, IndexArray
from retail_core.features.batch.attribute_columns import read_users_table
from retail_core.features.batch.batch_interpreter import compute_features
from retail_core.features.batch.context_features import context_by_day
from retail_core.features.cutoff_context import local_day
from retail_core.features.engine import LakeReader, open_engine
from retail_core.features.persons import read_links_table, read_persons, row_histories
from retail_core.model.feature_matrix import to_matrix
from retail_core.model.leakage.guard_data import GuardData, GuardSample, column_owners
from retail_core.model.leakage.leakage_report import Finding
from retail_core.model.splits import user_hash_fraction
from retail_core.schemas import EVENT_COLUMNS, Pairs
from retail_core.temporary_files import temporary_folder

MAX_PAIRS = 400
TOLERANCE = 1e-6
"""Relative and absolute; features are float32 here."""


@dataclass(frozen=True)
class _TruncatedLake:
    """Paths of the event files, the user file and the file of identity links of a lake."""

    event_files: tuple[str, ...]
    user_file: str | None
    link_file: str | None = None

    def files(self, start: object = None, end: object = None) -> list[str]:
        del start, end
        return list(self.event_files)

    def users_file(self) -> str | None:
        return self.user_file

    def identities_file(self) -> str | None:
        return self.link_file


def check_future_removal(guard_data: GuardData, sample: GuardSample) -> Iterator[Finding]:
    """(c) Columns whose values differ once everything at or after the cut-off is removed.

    Where many sampled rows share a cut-off, the events of all users are cut there. Where each row has a
    cut-off of its own, each user's events are cut at the user's; features of the whole shop cannot be cut
    that way and are taken from the whole lake.
    """
    if guard_data.lake is None:
        return
    positions = _select_positions(sample)
    rows = sample.rows.loc[positions, ["user_id", "as_of", "policy"]].reset_index(drop=True)
    recomputed = _features_without_future(guard_data, guard_data.lake, rows)
    same: BoolArray = np.isclose(recomputed, sample.matrix[positions], rtol=TOLERANCE, atol=TOLERANCE)
    owners = column_owners(guard_data.feature_set)
    changed = pd.Series((~same).sum(axis=0), index=owners).groupby(level=0).max()
    for name, count in changed[changed > 0].items():
        yield Finding(
            "c", str(name), "refuse",
            f"{name} changes in {count:,} of {len(rows):,} {sample.policy} rows once later events are "
            "removed.",
            {"policy": sample.policy, "n": len(rows), "changed": int(count)},
        )  # fmt: skip


def _features_without_future(guard_data: GuardData, lake: LakeReader, rows: pd.DataFrame) -> Float32Array:
    """Features of the rows from a lake that ends at their cut-offs."""
    task, feature_set = guard_data.feature_set.task, guard_data.feature_set
    days = {local_day(instant.to_pydatetime(), task) for instant in rows["as_of"]}
    context = context_by_day(lake, task, days) if rows["as_of"].nunique() > 1 else None
    with temporary_folder("retail-cut-") as folder:
        truncated = truncate_lake(lake, rows, folder)
        frame = compute_features(truncated, cast("DataFrame[Pairs]", rows), feature_set, context=context)
        return to_matrix(frame[list(feature_set.columns)])


def _select_positions(sample: GuardSample) -> IndexArray:
    """Positions of rows of the most frequent cut-off, or of one row each of some users."""
    order = np.argsort(user_hash_fraction(sample.rows["user_id"], "removal"), kind="stable")
    most_frequent = sample.rows["as_of"].mode().iloc[0]
    same_cutoff = order[sample.rows["as_of"].eq(most_frequent).to_numpy(bool)[order]]
    if len(same_cutoff) >= min(MAX_PAIRS, len(order)) / 4:
        return np.sort(same_cutoff[:MAX_PAIRS]).astype(np.intp)
    first_of_user = ~sample.rows["user_id"].iloc[order].duplicated().to_numpy(bool)
    return np.sort(order[first_of_user][:MAX_PAIRS]).astype(np.intp)


def truncate_lake(lake: LakeReader, rows: pd.DataFrame, folder: Path) -> LakeReader:
    """A lake without the events and attributes at or after the rows' cut-offs.

    Args:
        lake: whose files stay as they are.
        rows: `user_id`, `as_of`; one instant for all, or each user once.
        folder: for the files of the copy.
    """
    instants = rows["as_of"].unique()
    if len(instants) == 1:
        instant = instants[0].to_pydatetime()
        day = instant.replace(hour=0, minute=0, second=0, microsecond=0)
        # Files that hold earlier days only need no copy.
        earlier_files = sorted(set(lake.files(None, day)) - set(lake.files(day, None)))
        other_files = set(lake.files(None, instant)) - set(earlier_files)
        split = _TruncatedLake(tuple(sorted(other_files)), None)
        with open_engine() as engine:
            events = engine.to_arrow(engine.events(split, None, instant).select(*EVENT_COLUMNS))
    else:
        earlier_files, events = [], _events_before_cutoffs(lake, rows)
    path = folder / "events.parquet"
    parquet.write_table(events, path)
    files = (*earlier_files, str(path))
    return _TruncatedLake(files, _truncate_users(lake, rows, folder), _truncate_links(lake, rows, folder))


def _last_cutoffs(lake: LakeReader, rows: pd.DataFrame) -> pd.Series[int]:
    """The latest cut-off (microseconds) of the rows to which each id belongs."""
    as_of = rows["as_of"].dt.as_unit("us").astype("int64").to_numpy()
    histories = row_histories(read_persons(lake), rows["user_id"], as_of)
    ids = histories.users.select(["uid", "user_id"]).to_pandas()
    cutoffs = pd.DataFrame({"uid": histories.uid, "until": as_of}).merge(ids, on="uid")
    return cutoffs.groupby("user_id")["until"].max()


def _truncate_links(lake: LakeReader, rows: pd.DataFrame, folder: Path) -> str | None:
    """Identity links made before the last cut-off of the rows."""
    links = read_links_table(lake)
    if links is None:
        return None
    path = folder / "identities.parquet"
    before = pc.field("linked_at") < pyarrow.scalar(rows["as_of"].max().to_pydatetime())
    parquet.write_table(links.filter(before), path)
    return str(path)


def _events_before_cutoffs(lake: LakeReader, rows: pd.DataFrame) -> pyarrow.Table:
    """Events of the ids of the rows' users, each before the last cut-off of the id."""
    until = _last_cutoffs(lake, rows)
    limits = pyarrow.table(
        {"user_id": pyarrow.array(until.index, pyarrow.string()), "until": until.to_numpy(np.int64)}
    )
    with open_engine() as engine:
        events = engine.events(lake, None, rows["as_of"].max().to_pydatetime())
        joined = events.join(engine.table(limits), "user_id")
        return engine.to_arrow(joined.filter(joined.ts < joined.until).select(*EVENT_COLUMNS))


def _truncate_users(lake: LakeReader, rows: pd.DataFrame, folder: Path) -> str | None:
    """Attribute rows valid at their user's cut-off; those without a date stay, for the readers to decide."""
    table = read_users_table(lake)
    if table is None:
        return None
    until = _last_cutoffs(lake, rows)
    micros = table.column("user_id").to_pandas().map(until).astype("Int64")
    limit = pyarrow.array(micros).cast(pyarrow.timestamp("us", tz="UTC"))
    since = table.column("valid_from").cast(pyarrow.timestamp("us", tz="UTC"))
    is_valid = pc.or_kleene(pc.is_null(since), pc.less_equal(since, limit))
    path = folder / "users.parquet"
    parquet.write_table(table.filter(is_valid), path)
    return str(path)
