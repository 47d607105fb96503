"""Read uploaded files: events, or features with one user per row."""

from __future__ import annotations

import io
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
from pandera.typing.pandas import DataFrame

from retail_core import sources
from retail_core.arrow_compute import arrow_csv, pc, pq
from retail_core.errors import InputError
from retail_core.features.definitions import expand_definitions
from retail_core.features.feature_set import FeatureSet
from retail_core.schemas import MAX_ID_LENGTH, Event, EventFrame
from retail_core.scoring.batch_report import BatchReport
from retail_core.sources.compressed_files import DecompressedFile, file_kind
from retail_core.sources.identity_links import distinct_links
from retail_core.sources.parse_notes import ParseNotes, ValueWarning, merge_notes
from retail_core.sources.source import Chunk, Source

CANONICAL = "canonical"
KEY_COLUMNS = frozenset({"user_id", "as_of", "policy", "label"})
"""Columns beside the features; `retail features` writes the first two."""

ATTRIBUTE_PREFIX = "attr_"
"""Prefix of columns of user attributes, whose names depend on the data."""

MAX_EXAMPLES = 8
_CAST_ERRORS = (pa.ArrowInvalid, pa.ArrowNotImplementedError)


@dataclass(frozen=True)
class EventFile:
    """The events of a file, each event id once, and its user attributes.

    `links` is the number of pairs of ids that the file says are one person; they are scored as two users.
    """

    events: EventFrame
    users: pd.DataFrame
    rows_read: int
    duplicates: int
    refused: int
    notes: ParseNotes
    links: int
    examples: list[dict[str, object]]

    @property
    def user_ids(self) -> set[str]:
        """The users of its events and attributes."""
        return {*self.events["user_id"], *self.users["user_id"]}

    def report(self, version: str, as_of: str) -> BatchReport:
        """The counts of reading the file."""
        return BatchReport(
            kind="events",
            model_version=version,
            as_of=as_of,
            rows_read=self.rows_read,
            used=len(self.events),
            duplicates=self.duplicates,
            refused=self.refused,
            filtered=sum(rows.count for rows in self.notes.filtered),
            value_warnings=[_value_warning(warning) for warning in self.notes.warnings[:MAX_EXAMPLES]],
            examples=self.examples,
        )


def _value_warning(warning: ValueWarning) -> dict[str, object]:
    first = warning.examples[0].line if warning.examples else None
    return {
        "field": warning.field,
        "rule": warning.rule,
        "count": warning.count,
        "line": first,
        "remedy": warning.remedy,
    }


@dataclass(frozen=True)
class FeatureFile:
    """One row per user: `user_id`, then those of the model's features that the file has, as float64.

    `ignored` are feature columns that the model does not use.
    """

    rows: pd.DataFrame
    rows_read: int
    duplicates: int
    missing: dict[str, int]
    ignored: tuple[str, ...]
    refused: int = 0
    examples: list[dict[str, object]] = field(default_factory=list)

    @property
    def user_ids(self) -> set[str]:
        """The users of its rows."""
        return set(self.rows["user_id"])

    def report(self, version: str, as_of: str) -> BatchReport:
        """The counts of reading the file."""
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


def dialect_of(source: str, mapping: str = "") -> Source:
    """The preset `source`, or what the text of a mapping describes if there is one.

    Raises:
        InputError: there is no such preset, or the mapping is wrong.
    """
    return sources.mapping_from_text(mapping) if mapping else sources.get_preset(source)


OnRows = Callable[[int, int | None], None]
"""Receives the rows read so far and the rows of the file, estimated by its bytes until it was read."""


def _ignore_rows(_rows_read: int, _rows: int | None) -> None:
    """Do nothing."""


def read_upload(
    path: Path, source: Source, feature_set: FeatureSet, on_rows: OnRows = _ignore_rows
) -> EventFile | FeatureFile:
    """Read a file as events of `source`, or as features if it has feature columns and no `event_time`.

    Args:
        path: the file.
        source: its dialect, see `dialect_of`.
        feature_set: the model's features.
        on_rows: called after each part that was read; what it raises ends the reading.

    Raises:
        InputError: the file is neither.
    """
    if source == sources.get_preset(CANONICAL):
        columns = _columns(path)
        if "event_time" not in columns and set(columns) & set(feature_set.columns):
            features = _features(path, columns, feature_set)
            on_rows(features.rows_read, features.rows_read)
            return features
    return _events(path, source, on_rows)


def contains_user(path: Path, source: Source, user_id: str) -> bool:
    """Whether a file that is to be scored has rows of the user, refused ones and links included.

    Raises:
        InputError: the file cannot be read.
    """
    if source == sources.get_preset(CANONICAL):
        columns = _columns(path)
        if "event_time" not in columns and "user_id" in columns:
            users = _user_ids(_read_table(path, []))
            return bool(pc.any(pc.equal(users, user_id)).as_py())
    return any(_has_rows_of(chunk, user_id) for chunk in sources.read_events(path, source))


def _has_rows_of(chunk: Chunk, user_id: str) -> bool:
    identifiers = (
        *(chunk.events["user_id"], chunk.users["user_id"]),
        *(chunk.links.column(name).to_pandas() for name in ("from_id", "to_id")),
    )
    if any((ids == user_id).any() for ids in identifiers):
        return True
    word = re.compile(rf"(?<!\w){re.escape(user_id)}(?!\w)")
    return any(word.search(row.raw) for row in chunk.refused)


def _events(path: Path, source: Source, on_rows: OnRows) -> EventFile:
    size = path.stat().st_size
    frames: list[pd.DataFrame] = []
    users: list[pd.DataFrame] = []
    examples: list[dict[str, object]] = []
    notes: list[ParseNotes] = []
    links: set[tuple[str, str]] = set()
    rows_read = refused = 0
    for chunk in sources.read_events(path, source):
        frames.append(chunk.events.assign(properties=None))
        users.append(chunk.users)
        notes.append(chunk.notes)
        links |= {(first, second) for first, second, _ in distinct_links(chunk.links)}
        rows_read += chunk.rows_read
        on_rows(rows_read, round(rows_read * size / chunk.position) if chunk.position else None)
        refused += len(chunk.refused)
        examples += [
            {"line": row.line, "field": row.field, "rule": row.rule, "value": row.value, "remedy": row.remedy}
            for row in chunk.refused[: MAX_EXAMPLES - len(examples)]
        ]
    on_rows(rows_read, rows_read)
    if not frames:
        raise InputError("The file holds no rows.", remedy="send a file with at least one event.")
    if not any(map(len, frames)):
        raise _no_event(rows_read, merge_notes(notes), examples)
    events = pd.concat(frames, ignore_index=True)
    unique = DataFrame[Event](events.drop_duplicates("event_id", ignore_index=True))
    attributes = pd.concat(users, ignore_index=True)
    duplicates = len(events) - len(unique)
    merged = merge_notes(notes)
    return EventFile(unique, attributes, rows_read, duplicates, refused, merged, len(links), examples)


def _no_event(rows_read: int, notes: ParseNotes, examples: Sequence[Mapping[str, object]]) -> InputError:
    """The error of a file without a usable event, with the first refused row."""
    filtered = sum(rows.count for rows in notes.filtered)
    message = f"The file has no usable event: {rows_read} rows refused, {filtered} left out by the mapping"
    if not examples:
        return InputError(
            f"{message}.", remedy="send a file with at least one event, or correct the mapping."
        )
    first_refused = examples[0]
    place = f"line {first_refused['line']}, column {first_refused['field']}, rule {first_refused['rule']}"
    return InputError(f"{message}; the first: {place}.", remedy=f"{first_refused['remedy']}.")


def _columns(path: Path) -> tuple[str, ...]:
    kind = file_kind(path)
    if kind == "parquet":
        try:
            return tuple(pq.read_schema(path).names)
        except (pa.ArrowInvalid, OSError) as error:
            raise InputError(
                f"The file is not a valid Parquet file: {error}.",
                remedy="write the file again and upload it.",
            ) from error
    with io.BufferedReader(DecompressedFile(path, kind)) as file:
        first_line = file.readline(1 << 20)
    header = first_line.decode("utf-8-sig", "replace").strip().split(",")
    return tuple(name.strip().strip('"') for name in header)


def _features(path: Path, columns: Sequence[str], feature_set: FeatureSet) -> FeatureFile:
    model_columns = feature_set.columns
    repeated = [name for name, occurrences in Counter(columns).items() if occurrences > 1]
    unused = set(columns) - set(model_columns) - KEY_COLUMNS
    ignored = {name for name in unused if name.startswith(ATTRIBUTE_PREFIX)} | (
        unused & expand_definitions(feature_set.task).keys()
    )
    unknown = sorted(unused - ignored)
    if "user_id" not in columns or unknown or repeated:
        surplus = f"has columns {(repeated or unknown)[:5]}"
        defect = surplus if "user_id" in columns else "has no column user_id"
        raise InputError(
            f"The file {defect}; it was read as features, which have one row per user.",
            remedy="name the columns as GET /model lists them, each once, beside user_id.",
        )
    table = _read_table(path, [name for name in columns if name in model_columns])
    rows, refused, examples = _valid_rows(table)
    unique = rows.drop_duplicates("user_id", ignore_index=True)
    missing = unique.drop(columns="user_id").isna().sum().reindex(model_columns, fill_value=len(unique))
    return FeatureFile(
        rows=unique,
        rows_read=len(table),
        duplicates=len(rows) - len(unique),
        missing={str(name): int(count) for name, count in missing[missing > 0].items()},
        ignored=tuple(sorted(ignored)),
        refused=refused,
        examples=examples,
    )


def _read_table(path: Path, features: Sequence[str]) -> pa.Table:
    columns = ["user_id", *features]
    try:
        kind = file_kind(path)
        if kind == "parquet":
            return pq.read_table(path, columns=columns)
        types = {"user_id": pa.string()}
        convert = arrow_csv.ConvertOptions(include_columns=columns, column_types=types)
        if kind == "plain":
            return arrow_csv.read_csv(pa.OSFile(str(path)), convert_options=convert)
        with DecompressedFile(path, kind) as unpacked:
            table = arrow_csv.read_csv(unpacked, convert_options=convert)
            problem = unpacked.problem
    except (*_CAST_ERRORS, pa.ArrowKeyError, OSError) as error:
        raise InputError(
            f"The file cannot be read as features: {error}.",
            remedy="write a CSV with a header, or Parquet, one row per user, numbers as numbers.",
        ) from error
    if problem is not None:
        raise InputError(
            f"The file cannot be unpacked: {problem}.", remedy="compress it again and upload it."
        )
    return table


def _valid_rows(table: pa.Table) -> tuple[pd.DataFrame, int, list[dict[str, object]]]:
    """The rows with a valid user id, the number of the others, and examples of those."""
    names = [name for name in table.column_names if name != "user_id"]
    values = np.empty((len(names), len(table)))
    for line, name in zip(values, names, strict=True):
        line[:] = _numbers(table, name)
    users = _user_ids(table)
    rows = pd.DataFrame(values.T, columns=names, copy=False)
    rows.insert(0, "user_id", users.to_pandas().astype("str"))
    lengths = pc.fill_null(pc.utf8_length(users), 0).to_numpy()
    invalid = (lengths < 1) | (lengths > MAX_ID_LENGTH)
    examples: list[dict[str, object]] = [
        {"line": int(row) + 2, "field": "user_id", "rule": "missing", "remedy": "fill in the user's id"}
        for row in np.flatnonzero(invalid)[:MAX_EXAMPLES]
    ]
    valid = rows[~invalid].reset_index(drop=True) if invalid.any() else rows
    return valid, int(invalid.sum()), examples


def _user_ids(table: pa.Table) -> pa.ChunkedArray:
    try:
        return table["user_id"].cast(pa.string())
    except _CAST_ERRORS as error:
        raise InputError(
            f"The column user_id contains a value that is not text: {error}.",
            remedy="write the user's id as text or a whole number.",
        ) from error


def _numbers(table: pa.Table, name: str) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    try:
        numbers = np.asarray(table[name].cast(pa.float64()).to_numpy(), dtype=np.float64)
    except _CAST_ERRORS as error:
        raise InputError(
            f"The column {name} contains a value that is not a number: {error}.",
            remedy="write numbers with a decimal point, and leave unknown values empty.",
        ) from error
    if np.isinf(numbers).any():
        raise InputError(
            f"The column {name} contains an infinite value.", remedy="leave unknown values empty."
        )
    return numbers
