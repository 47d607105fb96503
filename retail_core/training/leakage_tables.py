"""The guard on a table: one row a user (and time), a column with the answer, the others to be judged."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow

from retail_core.errors import DataError, InputError
from retail_core.features.definitions import FeatureSet, expand
from retail_core.features.question import Attribute, Question
from retail_core.model.estimator import to_matrix
from retail_core.model.labelled import refuse_too_little
from retail_core.model.leakage.cells import MOST_CELLS
from retail_core.model.leakage.evidence import Evidence, users_of
from retail_core.model.leakage.guard import inspect
from retail_core.model.leakage.report import LeakageReport
from retail_core.model.sampling import Sampling
from retail_core.settings import Settings

KEYS = ("user_id", "as_of", "policy")
_ANSWERS = {
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


def columns_of(path: Path) -> tuple[str, ...]:
    """Names of the columns of a CSV or Parquet file; of a CSV its first line.

    Raises:
        InputError: it cannot be read.
    """
    return tuple(str(name) for name in _read(path, rows=1).columns)


def inspect_table(path: Path, label: str, settings: Settings) -> LeakageReport:
    """Judge every column of a CSV or Parquet table but `user_id`, `as_of`, `policy` and the label.

    A column named as a feature of ours is judged as a feature, any other as an attribute of the user.
    Without `user_id` every row is a user. There are no events, so nothing is computed anew.

    Args:
        path: the table.
        label: column that says who bought: 0 and 1, true and false, or yes and no.
        settings: the seed, and how many buyers there must be.

    Raises:
        InputError: the file cannot be read, or the label is no yes or no.
        DataError: too few buyers, or no column to judge.
    """
    frame = _read(path)
    rows = _rows(frame, label, path)
    refuse_too_little(rows, settings.min_buyers)
    rows = users_of(rows)
    frame = frame.loc[rows.index]
    judged = [str(name) for name in frame.columns if name not in {*KEYS, label}]
    if not judged:
        raise DataError(f"{path} has no column besides its label.", remedy="give a table with features.")
    known = [name for name in judged if name in expand(Question())]
    attributes = [_attribute(name, frame[name]) for name in judged if name not in known]
    features = [_numbers(frame[name]) for name in known]
    encoded = [column for one in attributes for column in _encoded(one, frame[one.name])]
    evidence = Evidence(
        rows=rows.reset_index(drop=True),
        matrix=to_matrix(np.column_stack([*features, *encoded])),
        feature_set=FeatureSet(Question(), tuple(known), tuple(attributes)),
        sampling=Sampling(1.0, 1.0),
        labelled=rows,
        lake=None,
        as_of=None,
        seed=settings.seed,
    )
    return inspect(evidence)


def _read(path: Path, rows: int | None = None) -> pd.DataFrame:
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
    said = frame[label].astype("str").str.strip().str.lower()
    if len(odd := said[~said.isin(_ANSWERS)]):
        raise InputError(
            f"{path}, row {int(odd.index[0]) + 1}: the label {label} is {odd.iloc[0]!r}, which is neither "
            "yes nor no.",
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
            "label": said.map(_ANSWERS).to_numpy(bool),
        },
        index=frame.index,
    )


def _attribute(name: str, values: pd.Series) -> Attribute:
    if pd.api.types.is_numeric_dtype(values) or pd.api.types.is_datetime64_any_dtype(values):
        return Attribute(name, "number")
    frequent = values.dropna().astype("str").value_counts().index[:MOST_CELLS]
    return Attribute(name, "category", tuple(sorted(frequent)))


def _encoded(attribute: Attribute, values: pd.Series) -> list[np.ndarray[tuple[int], np.dtype[np.float64]]]:
    if attribute.kind == "number":
        return [_numbers(values)]
    text = values.astype("str").where(values.notna(), None)
    return [np.asarray(text.eq(category), dtype=np.float64) for category in attribute.categories]


def _numbers(values: pd.Series) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    if pd.api.types.is_datetime64_any_dtype(values):
        seconds = values.astype("int64").to_numpy(np.float64)
        return np.where(values.isna(), np.nan, seconds)
    return np.asarray(pd.to_numeric(values, errors="coerce"), dtype=np.float64)
