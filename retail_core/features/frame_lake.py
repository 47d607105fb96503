"""Events in DataFrames or Parquet files as a lake: validated by the contracts, in a temporary folder.

Separate from the library API, whose functions all read their events through it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import cast

import pandas as pd
import pandera.errors
import pandera.pandas as pa
import pyarrow
from pandera.typing.pandas import DataFrame
from pyarrow import parquet

from retail_core.errors import InputError
from retail_core.features.engine import LakeReader
from retail_core.schemas import EVENT_ARROW, EVENT_COLUMNS, TIME_DTYPE, Event, Pairs, UserAttributes
from retail_core.temporary_files import temporary_folder

Events = pd.DataFrame | str | Path | LakeReader
"""Events: a frame, a Parquet file or a folder of Parquet files with its columns, or a lake."""

_REQUIRED_COLUMNS = ("user_id", "event_time", "event_type")
_USERS_ARROW = pyarrow.schema(
    [
        ("user_id", pyarrow.string()),
        ("valid_from", pyarrow.timestamp("us", tz="UTC")),
        ("attributes", pyarrow.string()),
    ]
)


@dataclass(frozen=True)
class _FileLake:
    """Parquet files of events and perhaps one of user attributes; a `LakeReader`."""

    events: tuple[str, ...]
    users: str | None = None
    identities: str | None = None

    def files(self, start: datetime | None = None, end: datetime | None = None) -> list[str]:
        """All files, whatever the interval."""
        del start, end
        return list(self.events)

    def users_file(self) -> str | None:
        """The file of user attributes."""
        return self.users

    def identities_file(self) -> str | None:
        """The file of identity links."""
        return self.identities


@contextmanager
def open_frame_lake(events: Events, users: pd.DataFrame | None) -> Iterator[LakeReader]:
    """The events as a lake; frames are validated and written to a temporary folder.

    Args:
        events: a lake is used as it is.
        users: user attributes; they replace those of a lake.

    Raises:
        InputError: a frame does not fulfil its contract, or a path is no Parquet.
    """
    if not isinstance(events, pd.DataFrame | str | Path) and users is None:
        yield events
        return
    with temporary_folder("retail-") as folder:
        users_file = None
        if users is not None:
            users_file = str(folder / "users.parquet")
            _write(_validated_users(users), _USERS_ARROW, users_file)
        if not isinstance(events, pd.DataFrame | str | Path):
            yield _FileLake(tuple(events.files()), users_file, events.identities_file())
            return
        frame = events if isinstance(events, pd.DataFrame) else _read_parquet(Path(events))
        events_file = str(folder / "events.parquet")
        _write(_validated_events(frame), EVENT_ARROW, events_file)
        yield _FileLake((events_file,), users_file)


def _write(frame: pd.DataFrame, schema: pyarrow.Schema, path: str) -> None:
    parquet.write_table(pyarrow.Table.from_pandas(frame, schema, preserve_index=False), path)


def _read_parquet(path: Path) -> pd.DataFrame:
    try:
        return pd.read_parquet(path)
    except (OSError, pyarrow.ArrowInvalid) as error:
        raise InputError(
            f"{path} cannot be read as Parquet: {error}.",
            remedy="pass a Parquet file or a folder of Parquet files.",
        ) from error


def _validated_events(events: pd.DataFrame) -> pd.DataFrame:
    """Events as the contract `Event` has them: all columns in order, UTC milliseconds, typed nulls."""
    _refuse_columns("events", events, EVENT_COLUMNS, _REQUIRED_COLUMNS)
    columns = {
        name: _typed(events[name], f"events.{name}", EVENT_ARROW.field(name).type)
        for name in EVENT_COLUMNS
        if name in events
    }
    frame = pd.DataFrame(columns, index=events.index)
    if "event_id" not in events:
        frame["event_id"] = pd.Series([f"{row:012d}" for row in range(len(frame))], frame.index, dtype="str")
    for name in EVENT_COLUMNS:
        if name not in frame:
            integer = pyarrow.types.is_integer(EVENT_ARROW.field(name).type)
            frame[name] = pd.Series(None, frame.index, dtype="Int64" if integer else "str")
    validated = _validated(Event, frame[list(EVENT_COLUMNS)], "events")
    if repeated := int(validated["event_id"].duplicated().sum()):
        raise InputError(
            f"events.event_id is not unique: {repeated} rows repeat an id.",
            remedy="drop repeated events, or the column, if the rows are distinct events.",
        )
    return validated


def validated_pairs(pairs: pd.DataFrame) -> DataFrame[Pairs]:
    """Pairs as the contract `Pairs` has them, in their order and with their index; further columns are kept.

    Raises:
        InputError: they do not fulfil the contract.
    """
    names = ("user_id", "as_of")
    _refuse_columns("cutoffs", pairs, (*names, *pairs.columns), names)
    typed = pairs.assign(
        user_id=_typed(pairs["user_id"], "cutoffs.user_id", pyarrow.string()),
        as_of=_typed(pairs["as_of"], "cutoffs.as_of", pyarrow.timestamp("us", tz="UTC")),
    )
    return cast("DataFrame[Pairs]", _validated(Pairs, typed, "cutoffs"))


def _validated_users(users: pd.DataFrame) -> pd.DataFrame:
    """User attributes as the contract `UserAttributes` has them."""
    _refuse_columns("users", users, _USERS_ARROW.names, _USERS_ARROW.names)
    columns = {
        field.name: _typed(users[field.name], f"users.{field.name}", field.type) for field in _USERS_ARROW
    }
    return _validated(UserAttributes, pd.DataFrame(columns, index=users.index), "users")


def _refuse_columns(table: str, frame: pd.DataFrame, allowed: Sequence[str], required: Sequence[str]) -> None:
    if unknown := [str(name) for name in frame.columns if name not in allowed]:
        raise InputError(
            f"{table} has unknown columns: {', '.join(unknown)}.",
            remedy=f"drop or rename them; the columns are {', '.join(allowed)}.",
        )
    if missing := [name for name in required if name not in frame.columns]:
        raise InputError(
            f"{table} lacks the columns {', '.join(missing)}.",
            remedy=f"{', '.join(required)} are required.",
        )


def _typed(column: pd.Series, name: str, dtype: pyarrow.DataType) -> pd.Series:
    """The column in the contract's type where that changes no value; the contract refuses the others."""
    if pyarrow.types.is_timestamp(dtype):
        return _utc(column, name)
    if pyarrow.types.is_integer(dtype):
        integral = pd.api.types.is_numeric_dtype(column) and bool((column.dropna() % 1 == 0).all())
        return column.astype("Int64") if integral or column.isna().all() else column
    text = pd.api.types.infer_dtype(column, skipna=True) in {"string", "empty", "categorical"}
    return column.astype("str") if text else column


def _utc(column: pd.Series, name: str) -> pd.Series:
    if isinstance(column.dtype, pd.DatetimeTZDtype):
        in_utc: pd.Series = column.dt.tz_convert("UTC").dt.floor("ms")
        return in_utc.astype(TIME_DTYPE)
    if pd.api.types.is_datetime64_dtype(column):
        raise InputError(
            f"{name} has no time zone.",
            remedy=f"say which: .dt.tz_localize('Europe/Berlin') on {name}, for example.",
        )
    raise InputError(
        f"{name} contains {column.dtype} values, not datetimes with a time zone.",
        remedy="convert it: pd.to_datetime(column, utc=True) for texts with an offset.",
    )


def _validated(contract: type[pa.DataFrameModel], frame: pd.DataFrame, table: str) -> pd.DataFrame:
    """The frame with its index, checked by a Pandera contract.

    Raises:
        InputError: names the column, the check, and the first row (counted from 0) that fails it.
    """
    by_position = frame.reset_index(drop=True)
    try:
        validated = cast("pd.DataFrame", contract.validate(by_position, lazy=True))
    except pandera.errors.SchemaErrors as error:
        failures = error.failure_cases
        first = failures.iloc[0]
        same = (failures["column"] == first["column"]) & (failures["check"] == first["check"])
        where = "" if pd.isna(first["index"]) else f", first in row {first['index']}"
        raise InputError(
            f"{table}.{first['column']} fails the check {first['check']} {int(same.sum())} times{where}: "
            f"{first['failure_case']}.",
            remedy=f"correct the column; its contract is {contract.__name__} in retail_core.schemas.",
        ) from error
    return validated.set_axis(frame.index)
