"""The tables that cross a boundary, as Pandera contracts. Read this first.

Times are UTC. In frames they have millisecond resolution, as MongoDB stores them; the lake keeps
them as microseconds. Money is in hundredths of the currency's unit (`*_minor`). Ids are strings.
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
"""Google Analytics 4's recommended e-commerce names. Other types are kept under their own name."""

POLICIES: tuple[str, ...] = ("daily", "in-session", "first-visit")
"""Cut-off policies, the primary one of a model first."""

MAX_ID_LENGTH = 512
"""Longest user, item, session or order id, in characters."""

EARLIEST = pd.Timestamp("1990-01-01", tz="UTC")
LATEST = pd.Timestamp("2100-01-01", tz="UTC")

TIME_DTYPE = pd.DatetimeTZDtype(unit="ms", tz="UTC")


_ID = {"min_value": 1, "max_value": MAX_ID_LENGTH}
_SHORT = {"min_value": 1, "max_value": 64}
_MS_UTC = {"unit": "ms", "tz": "UTC"}


class Event(pa.DataFrameModel):
    """One row a user's act at a time; what `sources` produce and `events` stores."""

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
    """What is known of a user from `valid_from` on; `attributes` is a JSON object."""

    user_id: Series[str] = pa.Field(str_length=_ID)
    valid_from: Series[pd.DatetimeTZDtype] = pa.Field(dtype_kwargs=_MS_UTC, nullable=True)
    attributes: Series[str]

    class Config:
        """Exactly these columns."""

        strict = True
        coerce = False


class Pairs(pa.DataFrameModel):
    """The (user, cut-off) pairs to make rows for."""

    user_id: Series[str] = pa.Field(str_length=_ID)
    as_of: Series[pd.DatetimeTZDtype] = pa.Field(dtype_kwargs=_MS_UTC)

    class Config:
        """No pair twice; further columns (policy, label) may travel along."""

        unique = ("user_id", "as_of")
        coerce = False


class TrainingRows(Pairs):
    """Pairs with their policy, label and (further columns) features as float64."""

    policy: Series[str] = pa.Field(isin=POLICIES)
    label: Series[bool]


class Prediction(pa.DataFrameModel):
    """One stored prediction. `raw_score` is the uncalibrated ranking score, breaks ties of rank."""

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
    """A matured prediction: `purchased` says whether the user bought within the horizon."""

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
"""The lake's event columns; the same names as `Event`."""

EVENT_COLUMNS: tuple[str, ...] = tuple(EVENT_ARROW.names)
