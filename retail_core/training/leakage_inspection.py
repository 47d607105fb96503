"""The leakage guard on files: a raw log, read into a temporary lake, or a table of labelled rows."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow

from retail_core.errors import DataError, InputError
from retail_core.features.batch.attribute_columns import infer_attributes
from retail_core.features.cutoffs.policies import default_policies
from retail_core.features.definitions import expand_definitions
from retail_core.features.engine import EngineOptions
from retail_core.features.feature_set import FeatureSet, default_feature_set
from retail_core.features.prediction_task import PredictionTask
from retail_core.features.user_attributes import AttributeEncoding
from retail_core.model import dataset
from retail_core.model.feature_matrix import to_matrix
from retail_core.model.labelled import build_labelled_rows, refuse_too_few_buyers
from retail_core.model.leakage.guard_data import SAMPLE_ROWS, GuardData, limit_users
from retail_core.model.leakage.inspection import inspect_leakage
from retail_core.model.leakage.leakage_report import LeakageReport
from retail_core.model.leakage.value_cells import MAX_CELLS
from retail_core.model.sampling import Sampling, plan_sampling
from retail_core.settings import Settings
from retail_core.sources.event_reader import read_events
from retail_core.sources.source import Source
from retail_core.store.lake.reader import Lake
from retail_core.store.lake.scratch_lake import scratch_lake
from retail_core.temporary_files import temporary_folder
from retail_core.times import last_midnight

KEYS = ("user_id", "as_of", "policy")
_LABEL_VALUES = {
    "1": True,
    "1.0": True,
    "true": True,
    "yes": True,
    "0": False,
    "0.0": False,
    "false": False,
    "no": False,
}
_START = pd.Timestamp("1970-01-01", tz="UTC")


def inspect_log(path: Path, source: Source, settings: Settings, allowed: Sequence[str] = ()) -> LeakageReport:
    """Inspect the rows that a training on this file alone would have, by the source's cut-off policy.

    Args:
        path: raw file.
        source: dialect of the file.
        settings: the prediction task, the seed, and the shop's zone if not the source's.
        allowed: as for `inspect`.

    Raises:
        InputError: the file cannot be read.
        DataError: it has no events, or too few purchases.
    """
    zone = settings.timezone or source.timezone
    with temporary_folder("retail-leakage-") as folder:
        lake = scratch_lake(read_events(path, source), folder)
        newest = lake.state().last_event
        if newest is None:
            raise DataError(f"{path} has no usable event.", remedy="choose the source the file is from.")
        task = PredictionTask.from_settings(settings, zone)
        as_of, engine = last_midnight(newest, zone), EngineOptions.from_settings(settings)
        policies = default_policies(lake, source.policy, as_of, engine)
        return inspect_leakage(build_guard_data(lake, task, policies, as_of, settings), allowed)


def build_guard_data(
    lake: Lake, task: PredictionTask, policies: Sequence[str], as_of: datetime, settings: Settings
) -> GuardData:
    """Labelled rows of the policies, and features of a sample of them.

    Raises:
        DataError: too few purchases.
    """
    engine = EngineOptions.from_settings(settings)
    labelled = build_labelled_rows(lake, task, policies, as_of, engine).rows
    refuse_too_few_buyers(labelled, settings.min_buyers)
    sampling = plan_sampling(labelled["label"].to_numpy(bool), SAMPLE_ROWS * len(policies))
    rows = labelled[sampling.select(labelled, settings.seed)].reset_index(drop=True)
    undated = set(rows["policy"]) == {"first-visit"}
    feature_set = default_feature_set(task, infer_attributes(lake, as_of, include_undated=undated))
    matrix = dataset.compute_feature_matrix(lake, rows, feature_set, engine)
    return GuardData(rows, matrix, feature_set, sampling, labelled, lake, as_of, settings.seed)


def columns_of(path: Path) -> tuple[str, ...]:
    """Names of the columns of a CSV or Parquet file; of a CSV its first line.

    Raises:
        InputError: it cannot be read.
    """
    return tuple(str(name) for name in _read_table(path, rows=1).columns)


def inspect_table(path: Path, label: str, settings: Settings) -> LeakageReport:
    """Inspect every column of a CSV or Parquet table but `user_id`, `as_of`, `policy` and the label.

    A column named like a feature is inspected as a feature, any other as an attribute of the user. Without
    `user_id` every row is a user. There are no events, so no feature is computed again.

    Args:
        path: the table.
        label: column with the label: 0 and 1, true and false, or yes and no.
        settings: the seed, and how many buyers there must be.

    Raises:
        InputError: the file cannot be read, or a label is neither yes nor no.
        DataError: too few buyers, or no column to inspect.
    """
    frame = _read_table(path)
    rows = _rows(frame, label, path)
    refuse_too_few_buyers(rows, settings.min_buyers)
    rows = limit_users(rows)
    frame = frame.loc[rows.index]
    names = [str(name) for name in frame.columns if name not in {*KEYS, label}]
    if not names:
        raise DataError(f"{path} has no column besides its label.", remedy="give a table with features.")
    feature_names = [name for name in names if name in expand_definitions(PredictionTask())]
    attributes = [_attribute(name, frame[name]) for name in names if name not in feature_names]
    features = [_numbers(frame[name]) for name in feature_names]
    encoded = [column for attribute in attributes for column in _encoded(attribute, frame[attribute.name])]
    evidence = GuardData(
        rows=rows.reset_index(drop=True),
        matrix=to_matrix(np.column_stack([*features, *encoded])),
        feature_set=FeatureSet(PredictionTask(), tuple(feature_names), tuple(attributes)),
        sampling=Sampling(1.0, 1.0),
        labelled=rows,
        lake=None,
        as_of=None,
        seed=settings.seed,
    )
    return inspect_leakage(evidence)


def _read_table(path: Path, rows: int | None = None) -> pd.DataFrame:
    try:
        if path.suffix == ".parquet":
            return pd.read_parquet(path)
        return pd.read_csv(path, nrows=rows, low_memory=False)
    except FileNotFoundError as error:
        raise InputError(f"There is no file {path}.", remedy="check the path.") from error
    except (OSError, ValueError, pyarrow.ArrowException) as error:
        first = str(error).splitlines()[0]
        raise InputError(f"{path} cannot be read: {first}.", remedy="give a CSV or Parquet file.") from error


def _rows(frame: pd.DataFrame, label: str, path: Path) -> pd.DataFrame:
    """`user_id, as_of, policy, label` of a table, with its index."""
    labels = frame[label].astype("str").str.strip().str.lower()
    if len(invalid := labels[~labels.isin(_LABEL_VALUES)]):
        raise InputError(
            f"{path}, row {int(invalid.index[0]) + 1}: the label {label} is {invalid.iloc[0]!r}, which is "
            "neither yes nor no.",
            remedy="use 0 and 1, true and false, or yes and no.",
        )
    users = frame["user_id"] if "user_id" in frame else pd.Series(frame.index, index=frame.index)
    times = pd.Series(_START, index=frame.index)
    if "as_of" in frame:
        times = pd.to_datetime(frame["as_of"], utc=True, errors="coerce").fillna(_START)
    return pd.DataFrame(
        {
            "user_id": users.astype("str"),
            "as_of": times.dt.as_unit("ms"),
            "policy": frame["policy"].astype("str") if "policy" in frame else "table",
            "label": labels.map(_LABEL_VALUES).to_numpy(bool),
        },
        index=frame.index,
    )


def _attribute(name: str, values: pd.Series) -> AttributeEncoding:
    if pd.api.types.is_numeric_dtype(values) or pd.api.types.is_datetime64_any_dtype(values):
        return AttributeEncoding(name, "number")
    frequent = values.dropna().astype("str").value_counts().index[:MAX_CELLS]
    return AttributeEncoding(name, "category", tuple(sorted(frequent)))


def _encoded(
    attribute: AttributeEncoding, values: pd.Series
) -> list[np.ndarray[tuple[int], np.dtype[np.float64]]]:
    if attribute.kind == "number":
        return [_numbers(values)]
    text = values.astype("str").where(values.notna(), None)
    return [np.asarray(text.eq(category), dtype=np.float64) for category in attribute.categories]


def _numbers(values: pd.Series) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    if pd.api.types.is_datetime64_any_dtype(values):
        seconds = values.astype("int64").to_numpy(np.float64)
        return np.where(values.isna(), np.nan, seconds)
    return np.asarray(pd.to_numeric(values, errors="coerce"), dtype=np.float64)
