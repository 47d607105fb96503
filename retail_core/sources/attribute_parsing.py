"""User attributes: columns that describe the user rather than the event."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import pyarrow as pa
from pandera.typing.pandas import DataFrame

from retail_core.schemas import UserAttributes
from retail_core.sources.source import Source
from retail_core.sources.text_cleaning import cleaned_text
from retail_core.sources.time_parsing import NOT_A_TIME


def attribute_rows(source: Source, raw: Mapping[str, pa.Array]) -> DataFrame[UserAttributes]:
    """Rows of `UserAttributes` beside events; of equal attributes of a user the first row is used.

    The arguments are those of `attribute_frame`.
    """
    frame = attribute_frame(source, raw)
    first = frame[frame["attributes"] != "{}"].drop_duplicates(["user_id", "attributes"], ignore_index=True)
    return UserAttributes.validate(first)


def attribute_frame(source: Source, raw: Mapping[str, pa.Array]) -> DataFrame[UserAttributes]:
    """One row of `UserAttributes` for each raw row.

    Args:
        source: kinds of the attributes by raw column.
        raw: columns of equal length: the attributes, `user_id` and `valid_from` (ms since 1970 UTC).
    """
    names = [name for name in source.attributes if name in raw]
    kinds = [source.attributes[name] for name in names]
    cells = [cleaned_text(raw[name], source.nulls).to_pylist() for name in names]
    encoded = [compact_json(_attribute_values(names, kinds, row)) for row in zip(*cells, strict=True)]
    if not names:
        encoded = ["{}"] * len(raw["user_id"])
    instants = np.where(raw["valid_from"].is_null(), NOT_A_TIME, raw["valid_from"].fill_null(0))
    frame = pd.DataFrame({"user_id": raw["user_id"].to_pandas(), "attributes": encoded}, dtype="str")
    frame.insert(1, "valid_from", pd.DatetimeIndex(instants.astype("datetime64[ms]")).tz_localize("UTC"))
    return UserAttributes.validate(frame)


def _attribute_values(
    names: list[str], kinds: Sequence[str], cells: tuple[str | None, ...]
) -> dict[str, object]:
    triples = zip(names, kinds, cells, strict=True)
    return {name: _attribute_value(cell, kind) for name, kind, cell in triples if cell is not None}


def _attribute_value(value: str, kind: str) -> object:
    """A number if `kind` is `number` and `value` is a finite one, else the text."""
    if kind == "text":
        return value
    try:
        number = float(value)
    except ValueError:
        return value
    if not math.isfinite(number):
        return value
    return int(number) if number.is_integer() else number


def compact_json(value: Mapping[str, object]) -> str:
    """`value` as JSON with sorted keys and no spaces, so that equal objects give equal text."""
    return json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
