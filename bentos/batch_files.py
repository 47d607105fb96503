"""What an uploaded file holds: events, or the features of one user a row."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
from pandera.typing.pandas import DataFrame

from bentos.batch_report import SHOWN_REFUSALS, BatchReport
from retail_core import sources
from retail_core.arrow_compute import arrow_csv, pc, pq
from retail_core.errors import InputError
from retail_core.features.definitions import expand_definitions
from retail_core.features.feature_set import FeatureSet
from retail_core.schemas import MAX_ID_LENGTH, Event, EventFrame
from retail_core.sources.files import Unpacked, file_kind

CANONICAL = "canonical"
LABELS = frozenset({"user_id", "as_of", "policy", "label"})
"""Columns beside the features; `retail features` writes the first two."""

ATTRIBUTE_PREFIX = "attr_"
"""How columns of user attributes begin; which of them there are the data say."""

_NO_SUCH_CAST = (pa.ArrowInvalid, pa.ArrowNotImplementedError)


@dataclass(frozen=True)
class EventFile:
    """The file's events, each event id once, and the user attributes it brings."""

    events: EventFrame
    users: pd.DataFrame
    rows_read: int
    duplicates: int
    refused: int
    examples: list[dict[str, object]]

    def report(self, version: str, as_of: str) -> BatchReport:
        """The counts so far."""
        return BatchReport(
            kind="events",
            model_version=version,
            as_of=as_of,
            rows_read=self.rows_read,
            used=len(self.events),
            duplicates=self.duplicates,
            refused=self.refused,
            examples=self.examples,
        )


@dataclass(frozen=True)
class FeatureFile:
    """One row a user: `user_id`, then those of the model's features that the file has, as float64.

    `ignored` are columns of features that the model does without.
    """

    rows: pd.DataFrame
    rows_read: int
    duplicates: int
    missing: dict[str, int]
    ignored: tuple[str, ...]
    refused: int = 0
    examples: list[dict[str, object]] = field(default_factory=list)

    def report(self, version: str, as_of: str) -> BatchReport:
        """The counts so far."""
        return BatchReport(
            kind="features",
            model_version=version,
            as_of=as_of,
            rows_read=self.rows_read,
            used=len(self.rows),
            duplicates=self.duplicates,
            refused=self.refused,
            features_missing=self.missing,
            features_ignored=list(self.ignored),
            examples=self.examples,
        )


def read_upload(path: Path, source: str, feature_set: FeatureSet) -> EventFile | FeatureFile:
    """Read the file as events of `source`, or as features where it has no `event_time` but features.

    Raises:
        InputError: it is neither.
    """
    if source == CANONICAL:
        columns = _columns(path)
        if "event_time" not in columns and set(columns) & set(feature_set.columns):
            return _features(path, columns, feature_set)
    return _events(path, source)


def _events(path: Path, source: str) -> EventFile:
    frames: list[pd.DataFrame] = []
    users: list[pd.DataFrame] = []
    examples: list[dict[str, object]] = []
    rows_read = refused = 0
    for chunk in sources.read_events(path, sources.get(source)):
        frames.append(chunk.events.assign(properties=None))
        users.append(chunk.users)
        rows_read += chunk.rows_read
        refused += len(chunk.refused)
        examples += [
            {"line": one.line, "field": one.field, "rule": one.rule, "value": one.value, "remedy": one.remedy}
            for one in chunk.refused[: SHOWN_REFUSALS - len(examples)]
        ]
    if not frames:
        raise InputError("The file holds no rows.", remedy="send a file with at least one event.")
    events = pd.concat(frames, ignore_index=True)
    unique = DataFrame[Event](events.drop_duplicates("event_id", ignore_index=True))
    attributes = pd.concat(users, ignore_index=True)
    return EventFile(unique, attributes, rows_read, len(events) - len(unique), refused, examples)


def _columns(path: Path) -> tuple[str, ...]:
    kind = file_kind(path)
    if kind == "parquet":
        try:
            return tuple(pq.read_schema(path).names)
        except (pa.ArrowInvalid, OSError) as error:
            raise InputError(
                f"The file is damaged Parquet: {error}.", remedy="write the file again and send that."
            ) from error
    with io.BufferedReader(Unpacked(path, kind)) as file:
        first = file.readline(1 << 20)
    header = first.decode("utf-8-sig", "replace").strip().split(",")
    return tuple(name.strip().strip('"') for name in header)


def _features(path: Path, columns: Sequence[str], feature_set: FeatureSet) -> FeatureFile:
    known = feature_set.columns
    twice = [name for name, times in Counter(columns).items() if times > 1]
    others = set(columns) - set(known) - LABELS
    ignored = {name for name in others if name.startswith(ATTRIBUTE_PREFIX)} | (
        others & expand_definitions(feature_set.task).keys()
    )
    unknown = sorted(others - ignored)
    if "user_id" not in columns or unknown or twice:
        wrong = (
            "has no column user_id" if "user_id" not in columns else f"has columns {(twice or unknown)[:5]}"
        )
        raise InputError(
            f"The file {wrong}; it was read as features, which are one row a user.",
            remedy="name the columns as GET /model lists them, each once, beside user_id.",
        )
    table = _table(path, [name for name in columns if name in known])
    rows, refused, examples = _usable(table)
    unique = rows.drop_duplicates("user_id", ignore_index=True)
    missing = unique.drop(columns="user_id").isna().sum().reindex(known, fill_value=len(unique))
    return FeatureFile(
        rows=unique,
        rows_read=len(table),
        duplicates=len(rows) - len(unique),
        missing={str(name): int(count) for name, count in missing[missing > 0].items()},
        ignored=tuple(sorted(ignored)),
        refused=refused,
        examples=examples,
    )


def _table(path: Path, features: Sequence[str]) -> pa.Table:
    wanted = ["user_id", *features]
    try:
        kind = file_kind(path)
        if kind == "parquet":
            return pq.read_table(path, columns=wanted)
        types = {"user_id": pa.string()}
        convert = arrow_csv.ConvertOptions(include_columns=wanted, column_types=types)
        if kind == "plain":
            return arrow_csv.read_csv(pa.OSFile(str(path)), convert_options=convert)
        with Unpacked(path, kind) as unpacked:
            table = arrow_csv.read_csv(unpacked, convert_options=convert)
            problem = unpacked.problem
    except (*_NO_SUCH_CAST, pa.ArrowKeyError, OSError) as error:
        raise InputError(
            f"The file cannot be read as features: {error}.",
            remedy="write a CSV with a header, or Parquet, one row a user, numbers as numbers.",
        ) from error
    if problem is not None:
        raise InputError(f"The file cannot be unpacked: {problem}.", remedy="pack it again and send that.")
    return table


def _usable(table: pa.Table) -> tuple[pd.DataFrame, int, list[dict[str, object]]]:
    names = [name for name in table.column_names if name != "user_id"]
    values = np.empty((len(names), len(table)))
    for line, name in zip(values, names, strict=True):
        line[:] = _numbers(table, name)
    users = _ids(table)
    rows = pd.DataFrame(values.T, columns=names, copy=False)
    rows.insert(0, "user_id", users.to_pandas().astype("str"))
    lengths = pc.fill_null(pc.utf8_length(users), 0).to_numpy()
    bad = (lengths < 1) | (lengths > MAX_ID_LENGTH)
    examples: list[dict[str, object]] = [
        {"line": int(row) + 2, "field": "user_id", "rule": "missing", "remedy": "fill in the user's id"}
        for row in np.flatnonzero(bad)[:SHOWN_REFUSALS]
    ]
    return rows[~bad].reset_index(drop=True) if bad.any() else rows, int(bad.sum()), examples


def _ids(table: pa.Table) -> pa.ChunkedArray:
    try:
        return table["user_id"].cast(pa.string())
    except _NO_SUCH_CAST as error:
        raise InputError(
            f"The column user_id holds something that is no text: {error}.",
            remedy="write the user's id as text or a whole number.",
        ) from error


def _numbers(table: pa.Table, name: str) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    try:
        numbers = np.asarray(table[name].cast(pa.float64()).to_numpy(), dtype=np.float64)
    except _NO_SUCH_CAST as error:
        raise InputError(
            f"The column {name} holds something that is no number: {error}.",
            remedy="write numbers with a decimal point, and leave unknown values empty.",
        ) from error
    if np.isinf(numbers).any():
        raise InputError(f"The column {name} holds an infinite value.", remedy="leave unknown values empty.")
    return numbers
