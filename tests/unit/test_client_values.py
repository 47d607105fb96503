"""What the client sends for values of Python, NumPy and pandas."""

from __future__ import annotations

import inspect
import json
import uuid
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest

from retail_core.client import AsyncClient, Client, PredictRequest
from retail_core.client.json_values import json_number, json_value
from retail_core.errors import InputError

INSTANT = "2025-01-31T09:30:00.250Z"


@pytest.mark.parametrize(
    "value",
    [
        datetime.fromisoformat("2025-01-31T09:30:00.250999"),
        datetime(2025, 1, 31, 9, 30, 0, 250_000, tzinfo=UTC),
        datetime(2025, 1, 31, 17, 30, 0, 250_000, tzinfo=timezone(timedelta(hours=8))),
        pd.Timestamp("2025-01-31T09:30:00.250"),
        pd.Timestamp("2025-01-31T10:30:00.250", tz="Europe/Berlin"),
        np.datetime64("2025-01-31T09:30:00.250", "ms"),
        np.datetime64("2025-01-31T09:30:00.250", "ns"),
    ],
)
def test_an_instant_is_sent_in_utc_whatever_the_zone_of_this_machine(
    value: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    assert json_value(value, "event_time") == INSTANT


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (np.int64(3), 3),
        (np.float32(0.5), 0.5),
        (np.bool_(True), True),
        (np.str_("a"), "a"),
        (np.array([1, 2]), [1, 2]),
        (np.array(["2025-01-31"], dtype="datetime64[ns]"), ["2025-01-31T00:00:00Z"]),
        (Decimal("19.90"), "19.90"),
        (Decimal("1E+3"), "1000"),
        (date(2025, 1, 31), "2025-01-31"),
        (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        ((1, None), [1, None]),
        ({"a": {"b": np.int8(1)}}, {"a": {"b": 1}}),
    ],
)
def test_values_become_json(value: object, expected: object) -> None:
    converted = json_value(value, "value")
    assert converted == expected
    assert json.loads(json.dumps(converted, allow_nan=False)) == expected


@pytest.mark.parametrize(
    "value",
    [None, float("nan"), np.nan, np.float64("nan"), pd.NA, pd.NaT, np.datetime64("NaT"), Decimal("NaN")],
)
def test_a_missing_value_is_null(value: object) -> None:
    assert json_value(value, "value") is None
    assert json_number(value, "value") is None


@pytest.mark.parametrize("value", [float("inf"), np.float64("-inf"), Decimal("Infinity"), {1}, b"a", 1j])
def test_a_value_without_json_is_an_error_that_names_it(value: object) -> None:
    with pytest.raises(InputError, match=r"^events\[1\]\.price is "):
        json_value([{}, {"price": value}], "events")


def test_a_request_is_converted_as_a_whole() -> None:
    events = [
        {
            "event_time": datetime.fromisoformat("2025-01-31"),
            "price": Decimal("19.90"),
            "quantity": np.int64(2),
        }
    ]
    request = PredictRequest("u", datetime.fromisoformat("2025-02-01"), events)
    assert request.body() == {
        "user_id": "u",
        "as_of": "2025-02-01T00:00:00Z",
        "events": [{"event_time": "2025-01-31T00:00:00Z", "price": "19.90", "quantity": 2}],
    }
    features = PredictRequest("u", features={"a": Decimal("0.5"), "b": np.float64(2), "c": np.nan})
    assert features.body() == {"user_id": "u", "features": {"a": 0.5, "b": 2.0, "c": None}}


def test_the_asynchronous_client_has_the_methods_of_the_synchronous_one() -> None:
    names = {name for name in vars(Client) if not name.startswith("_")}
    assert {"predict", "predict_many", "post_events", "model", "reload", "close"} <= names
    for name in names:
        twin = getattr(AsyncClient, name)
        assert inspect.iscoroutinefunction(twin), name
        assert inspect.signature(twin) == inspect.signature(getattr(Client, name)), name
