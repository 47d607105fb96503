"""What raw records say about their users, as rows of `users`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import pyarrow as pa
from pandera.typing.pandas import DataFrame

from retail_core.schemas import UserAttributes
from retail_core.sources.source import Source
from retail_core.sources.values import NOT_A_TIME, text


def compact_json(value: Mapping[str, object]) -> str:
    """A JSON object with sorted keys and no blanks: equal objects are equal texts."""
    return json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))


def attribute_rows(source: Source, raw: Mapping[str, pa.Array]) -> DataFrame[UserAttributes]:
    """Attributes by `user_id` from `valid_from` (ms) on; what repeats itself is kept once, the first."""
    names = [name for name in source.attributes if name in raw]
    kinds = [source.attributes[name] for name in names]
    cells = [text(raw[name]).to_pylist() for name in names]
    held = [compact_json(_attributes(names, kinds, row)) for row in zip(*cells, strict=True)]
    instants = np.where(raw["valid_from"].is_null(), NOT_A_TIME, raw["valid_from"].fill_null(0))
    frame = pd.DataFrame({"user_id": raw["user_id"].to_pandas(), "attributes": held}, dtype="str")
    frame.insert(1, "valid_from", pd.DatetimeIndex(instants.astype("datetime64[ms]")).tz_localize("UTC"))
    first = frame[frame["attributes"] != "{}"].drop_duplicates(["user_id", "attributes"], ignore_index=True)
    return UserAttributes.validate(first)


def _attributes(names: list[str], kinds: Sequence[str], cells: tuple[str | None, ...]) -> dict[str, object]:
    triples = zip(names, kinds, cells, strict=True)
    return {name: _attribute(cell, kind) for name, kind, cell in triples if cell is not None}


def _attribute(value: str, kind: str) -> object:
    if kind == "text":
        return value
    try:
        number = float(value)
    except ValueError:
        return value
    return int(number) if number.is_integer() else number
