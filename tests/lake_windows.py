"""Events and ledger windows as ingestion writes them, and predictions, for tests of the lake."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pandas as pd
from pandera.typing.pandas import DataFrame

from retail_core.schemas import Prediction
from retail_core.scoring.list_predictions import rank_predictions
from retail_core.store.mongo.connection import Document, Store

START = datetime(2025, 1, 1, tzinfo=UTC)

SYNC_PROGRAM = (
    "import sys; from pathlib import Path; from pydantic import SecretStr;"
    "from retail_core.settings import Settings; from retail_core.store.mongo.connection import open_store;"
    "from retail_core.store.lake.table import sync;"
    "s = open_store(Settings(home=Path(sys.argv[1]), mongodb_uri=SecretStr(sys.argv[2]),"
    " mongodb_database=sys.argv[3], lake=next(iter(sys.argv[4:]), None)));"
    "print('ready', flush=True); print(sync(s).rows, flush=True); s.close()"
)
"""Synchronizes a lake in its own process: home, MongoDB's URI, database and, optionally, the lake's URL."""


def event(number: int, window_id: int, *, day: int = 0, **more: object) -> Document:
    """An event document as ingestion writes it; `number` makes its id and its instant within the day."""
    return {
        "_id": f"{number:032x}",
        "user_id": f"u{number % 7}",
        "event_time": START + timedelta(days=day, milliseconds=number * 997 % 86_400_000),
        "event_type": "view_item",
        "properties": "{}",
        "source": "canonical",
        "window_id": window_id,
    } | more


def put(
    store: Store, window_id: int, events: list[Document], *, committed: bool = True, users: int = 0
) -> None:
    if events:
        store.events.insert_many(events)
    store.ledger.insert_one(
        {
            "_id": f"window:{window_id}",
            "kind": "window",
            "window_id": window_id,
            "state": "committed" if committed else "open",
            "last_row": len(events),
            "counts": {"inserted": len(events)},
            "users": users,
        }
    )


def predictions_of(*users: str, as_of: datetime = START) -> DataFrame[Prediction]:
    """Ranked predictions of version 1, the most probable buyer first."""
    count = len(users)
    frame = pd.DataFrame(
        {
            "user_id": list(users),
            "as_of": pd.Series([pd.Timestamp(as_of)] * count).astype("datetime64[ms, UTC]"),
            "model_version": "1",
            "policy": "daily",
            "probability": [0.5 / (place + 1) for place in range(count)],
            "raw_score": [0.5 / (place + 1) for place in range(count)],
            "will_purchase": [place == 0 for place in range(count)],
            "contact": [place == 0 for place in range(count)],
        }
    )
    return rank_predictions([frame.astype({"user_id": "str", "model_version": "str", "policy": "str"})])
