"""Pandera contracts of the tables that pass between packages. Read this module first.

Times are UTC, with millisecond resolution in frames and MongoDB and microseconds in the lake. Money is in
hundredths of the currency unit (`*_minor`). Ids are strings.
"""

from __future__ import annotations

import pandas as pd
import pandera.pandas as pa
import pyarrow
from pandera.typing.pandas import DataFrame, Series

EVENT_TYPES: tuple[str, ...] = (
    "view_item",
    "view_item_list",
    "search",
    "add_to_cart",
    "remove_from_cart",
    "add_to_wishlist",
    "begin_checkout",
    "purchase",
    "refund",
    "screen_view",
    "session_start",
)
"""Event types named as Google Analytics 4 recommends; other types are stored under their raw name."""

POLICIES: tuple[str, ...] = ("daily", "in-session", "first-visit")
"""Cut-off policies in the order in which a model prefers one as primary policy."""

MAX_ID_LENGTH = 512
"""Maximum length of a user, item, session or order id, in characters."""

EARLIEST = pd.Timestamp("1990-01-01", tz="UTC")
LATEST = pd.Timestamp("2100-01-01", tz="UTC")

TIME_DTYPE = pd.DatetimeTZDtype(unit="ms", tz="UTC")


_ID = {"min_value": 1, "max_value": MAX_ID_LENGTH}
_SHORT = {"min_value": 1, "max_value": 64}
_MS_UTC = {"unit": "ms", "tz": "UTC"}


class Event(pa.DataFrameModel):
    """Events, one row per act of a user, as sources produce and MongoDB stores them."""

    event_id: Series[str] = pa.Field(str_length=_ID)
    user_id: Series[str] = pa.Field(str_length=_ID)
    event_time: Series[pd.DatetimeTZDtype] = pa.Field(dtype_kwargs=_MS_UTC, ge=EARLIEST, lt=LATEST)
    event_type: Series[str] = pa.Field(str_length=_SHORT)
    item_id: Series[str] = pa.Field(nullable=True, str_length=_ID)
    category: Series[str] = pa.Field(nullable=True, str_length=_ID)
    brand: Series[str] = pa.Field(nullable=True, str_length=_ID)
    price_minor: Series[pd.Int64Dtype] = pa.Field(nullable=True, ge=0, le=10**13)
    quantity: Series[pd.Int64Dtype] = pa.Field(nullable=True, ge=0, le=10**7)
    currency: Series[str] = pa.Field(nullable=True, str_length={"min_value": 1, "max_value": 8})
    session_id: Series[str] = pa.Field(nullable=True, str_length=_ID)
    platform: Series[str] = pa.Field(nullable=True, str_length=_SHORT)
    order_id: Series[str] = pa.Field(nullable=True, str_length=_ID)
    properties: Series[str] = pa.Field(nullable=True)

    class Config:
        """Exactly these columns in this order; nothing is cast silently."""

        strict = True
        ordered = True
        coerce = False


class UserAttributes(pa.DataFrameModel):
    """Attributes of a user that are valid from `valid_from`; `attributes` is a JSON object."""

    user_id: Series[str] = pa.Field(str_length=_ID)
    valid_from: Series[pd.DatetimeTZDtype] = pa.Field(dtype_kwargs=_MS_UTC, nullable=True)
    attributes: Series[str]

    class Config:
        """Exactly these columns."""

        strict = True
        coerce = False


class Pairs(pa.DataFrameModel):
    """(user, cut-off) pairs, one per row of features."""

    user_id: Series[str] = pa.Field(str_length=_ID)
    as_of: Series[pd.DatetimeTZDtype] = pa.Field(dtype_kwargs=_MS_UTC)

    class Config:
        """Pairs are unique; further columns (policy, label) are allowed."""

        unique = ("user_id", "as_of")
        coerce = False


class TrainingRows(Pairs):
    """Pairs with policy, label and, in further columns, features as float64."""

    policy: Series[str] = pa.Field(isin=POLICIES)
    label: Series[bool]


class Prediction(pa.DataFrameModel):
    """Stored predictions; `raw_score` is the uncalibrated score, which breaks ties of rank."""

    user_id: Series[str] = pa.Field(str_length=_ID)
    as_of: Series[pd.DatetimeTZDtype] = pa.Field(dtype_kwargs=_MS_UTC)
    model_version: Series[str]
    policy: Series[str] = pa.Field(isin=POLICIES)
    probability: Series[float] = pa.Field(ge=0, le=1)
    raw_score: Series[float] = pa.Field(ge=0, le=1)
    rank: Series[int] = pa.Field(ge=1)
    will_purchase: Series[bool]
    contact: Series[bool]

    class Config:
        """One prediction per user, instant and version."""

        unique = ("user_id", "as_of", "model_version")
        coerce = False


class Outcome(Prediction):
    """Matured predictions; `purchased` is true if the user bought within the horizon."""

    purchased: Series[bool]


EventFrame = DataFrame[Event]

EVENT_ARROW = pyarrow.schema(
    [
        pyarrow.field("event_id", pyarrow.string(), nullable=False),
        pyarrow.field("user_id", pyarrow.string(), nullable=False),
        pyarrow.field("event_time", pyarrow.timestamp("us", tz="UTC"), nullable=False),
        pyarrow.field("event_type", pyarrow.string(), nullable=False),
        pyarrow.field("item_id", pyarrow.string()),
        pyarrow.field("category", pyarrow.string()),
        pyarrow.field("brand", pyarrow.string()),
        pyarrow.field("price_minor", pyarrow.int64()),
        pyarrow.field("quantity", pyarrow.int64()),
        pyarrow.field("currency", pyarrow.string()),
        pyarrow.field("session_id", pyarrow.string()),
        pyarrow.field("platform", pyarrow.string()),
        pyarrow.field("order_id", pyarrow.string()),
        pyarrow.field("properties", pyarrow.string()),
    ]
)
"""Event columns of the lake, with the names of `Event`."""

EVENT_COLUMNS: tuple[str, ...] = tuple(EVENT_ARROW.names)
