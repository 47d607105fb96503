"""The library API with a model of the registry, by version and by folder."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from retail_core.api import predictions
from retail_core.errors import DataError
from retail_core.registry import versions
from retail_core.settings import Settings

pytestmark = pytest.mark.integration

EVENTS = pd.DataFrame(
    {
        "user_id": ["ann", "ann", "bob"],
        "event_time": pd.to_datetime(["2025-01-05T10:00Z", "2025-01-05T22:00Z", "2025-01-05T20:00Z"]),
        "event_type": ["view_item", "add_to_cart", "view_item"],
    }
)


def test_a_version_and_its_folder_give_the_same_predictions(registered: Settings) -> None:
    as_of = "2025-01-06T00:00:00Z"
    by_version = predictions("1", EVENTS, as_of, settings=registered)
    assert sorted(by_version["user_id"]) == ["ann", "bob"]
    assert set(by_version["model_version"]) == {"1"}
    by_number = predictions(1, EVENTS, as_of, settings=registered)
    folder: Path = versions.download(registered, "1")
    by_folder = predictions(folder, EVENTS, as_of)
    by_text = predictions(str(folder), EVENTS, as_of)
    for table in (by_number, by_folder, by_text):
        pd.testing.assert_frame_equal(table, by_version, check_exact=True)
    with pytest.raises(DataError):
        predictions("99", EVENTS, as_of, settings=registered)
