"""Check (c) on features and attributes: are they the same, computed from a lake that ends at the cut-off?"""

from __future__ import annotations

import tempfile
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

from retail_core.features.batch.batch_interpreter import compute_features
from retail_core.features.batch.context_features import context_by_day
from retail_core.features.cutoff_context import local_day
from retail_core.features.engine import LakeReader, open_engine
from retail_core.model.feature_matrix import to_matrix
from retail_core.model.leakage.guard_data import GuardData, GuardSample, column_owners
from retail_core.model.leakage.leakage_report import Finding
from retail_core.model.splits import user_hash_fraction
from retail_core.schemas import EVENT_COLUMNS, Pairs

PAIRS = 400
TOLERANCE = 1e-6
"""Relative; features are float32 here."""


@dataclass(frozen=True)
class _TruncatedLake:
    """Lake files of which one has been replaced."""

    events: tuple[str, ...]
    users: str | None

    def files(self, start: object = None, end: object = None) -> list[str]:
        del start, end
        return list(self.events)

    def users_file(self) -> str | None:
        return self.users


def check_future_removal(evidence: GuardData, sample: GuardSample) -> Iterator[Finding]:
    """(c) Columns whose values differ once everything at or after the cut-off is taken away.

    Events of all users are cut at one instant, the cut-off that most sampled rows share; where each
    row has a cut-off of its own, each user's events are cut at the user's. What is known of the whole
    shop cannot be cut that way, and is taken from the whole lake then.
    """
    if evidence.lake is None:
        return
    chosen = _chosen(sample)
    rows = sample.rows.loc[chosen, ["user_id", "as_of", "policy"]].reset_index(drop=True)
    task = evidence.feature_set.task
    days = {local_day(instant.to_pydatetime(), task) for instant in rows["as_of"]}
    shop = context_by_day(evidence.lake, task, days) if rows["as_of"].nunique() > 1 else None
    with tempfile.TemporaryDirectory(prefix="retail-cut-") as folder:
        cut = truncate_lake(evidence.lake, rows, Path(folder))
        columns = list(evidence.feature_set.columns)
        frame = compute_features(cut, cast("DataFrame[Pairs]", rows), evidence.feature_set, shop=shop)
        again = to_matrix(frame[columns])
    same = np.isclose(again, sample.matrix[chosen], rtol=TOLERANCE, atol=TOLERANCE)
    changed = pd.Series((~same).sum(axis=0), index=column_owners(evidence.feature_set)).groupby(level=0).max()
    for name, count in changed[changed > 0].items():
        yield Finding(
            "c", str(name), "refuse",
            f"{name} changes in {count:,} of {len(rows):,} {sample.policy} rows once later events are "
            "removed.",
            {"policy": sample.policy, "n": len(rows), "changed": int(count)},
        )  # fmt: skip


def _chosen(sample: GuardSample) -> np.ndarray[tuple[int], np.dtype[np.intp]]:
    """Rows of the busiest cut-off, or one row each of some users."""
    order = np.argsort(user_hash_fraction(sample.rows["user_id"], "removal"), kind="stable")
    shared = sample.rows["as_of"].mode().iloc[0]
    same = order[sample.rows["as_of"].eq(shared).to_numpy(bool)[order]]
    if len(same) >= min(PAIRS, len(order)) / 4:
        return np.sort(same[:PAIRS]).astype(np.intp)
    once = ~sample.rows["user_id"].iloc[order].duplicated().to_numpy(bool)
    return np.sort(order[once][:PAIRS]).astype(np.intp)


def truncate_lake(lake: LakeReader, rows: pd.DataFrame, folder: Path) -> LakeReader:
    """A lake without what happened at or after the rows' cut-offs.

    Args:
        lake: to be cut; its files stay as they are.
        rows: `user_id`, `as_of`; one instant for all, or each user once.
        folder: where the copy of what is kept goes.
    """
    instants = rows["as_of"].unique()
    if len(instants) == 1:
        instant = instants[0].to_pydatetime()
        day = instant.replace(hour=0, minute=0, second=0, microsecond=0)
        # A file of earlier days only needs no copy.
        whole = sorted(set(lake.files(None, day)) - set(lake.files(day, None)))
        split = _TruncatedLake(tuple(sorted(set(lake.files(None, instant)) - set(whole))), None)
        with open_engine() as engine:
            kept = engine.to_arrow(engine.events(split, None, instant).select(*EVENT_COLUMNS))
    else:
        whole, kept = [], _events_before(lake, rows)
    path = folder / "events.parquet"
    parquet.write_table(kept, path)
    return _TruncatedLake((*whole, str(path)), _cut_users(lake, rows, folder))


def _events_before(lake: LakeReader, rows: pd.DataFrame) -> pyarrow.Table:
    """The rows' users' events, each before the user's own cut-off."""
    limits = pyarrow.table(
        {
            "user_id": pyarrow.array(rows["user_id"], pyarrow.string()),
            "until": rows["as_of"].dt.as_unit("us").astype("int64").to_numpy(),
        }
    )
    with open_engine() as engine:
        events = engine.events(lake, None, rows["as_of"].max().to_pydatetime())
        joined = events.join(engine.table(limits), "user_id")
        return engine.to_arrow(joined.filter(joined.ts < joined.until).select(*EVENT_COLUMNS))


def _cut_users(lake: LakeReader, rows: pd.DataFrame, folder: Path) -> str | None:
    """Attribute rows that hold at a cut-off; those without a date stay, whoever reads decides on them."""
    source = lake.users_file()
    if source is None:
        return None
    table = parquet.read_table(source)
    until = rows.drop_duplicates("user_id").set_index("user_id")["as_of"].dt.as_unit("us").astype("int64")
    micros = table.column("user_id").to_pandas().map(until).astype("Int64")
    limit = pyarrow.array(micros).cast(pyarrow.timestamp("us", tz="UTC"))
    since = table.column("valid_from").cast(pyarrow.timestamp("us", tz="UTC"))
    holds = pc.or_kleene(pc.is_null(since), pc.less_equal(since, limit))
    path = folder / "users.parquet"
    parquet.write_table(table.filter(holds), path)
    return str(path)
