"""`retail calendar` on a real database."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

from retail_core.sources.calendar_file import AnnouncedDay, DayKind
from retail_core.store.mongo.connection import Store
from retail_core.store.mongo.shop_calendar import announced_days, read_days, replace_calendar
from tests.command_line import retail


def run(store: Store, *arguments: str) -> dict[str, Any]:
    settings = store.settings
    assert settings.mongodb_uri is not None
    done = retail(
        *("calendar", *arguments, "--json"),
        home=settings.home_dir,
        RETAIL_MONGODB_URI=settings.mongodb_uri.get_secret_value(),
        RETAIL_MONGODB_DATABASE=settings.mongodb_database,
    )
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def test_a_calendar_is_set_shown_replaced_and_cleared(store: Store, tmp_path: Path) -> None:
    file = tmp_path / "calendar.csv"
    file.write_text(
        "first,last,kind,note\n2025-12-24,2025-12-26,closed,Christmas\n2025-11-28,2025-11-28,promotion,\n"
    )
    report = run(store, "set", str(file))
    assert (report["days"], report["promotion"], report["closed"], report["added"]) == (4, 1, 3, 4)
    before = datetime.now(UTC)
    file.write_text("date,kind\n2025-11-28,promotion\n2025-11-29,sale\n")
    assert "line 3, kind 'sale'" in run(store, "set", str(file))["error"]
    assert len(run(store, "show")["days"]) == 4
    file.write_text("date,kind\n2025-11-28,promotion\n")
    assert run(store, "set", str(file))["withdrawn"] == 3
    assert announced_days(store) == {date(2025, 11, 28): DayKind.PROMOTION}
    assert len(announced_days(store, known_at=before)) == 4
    assert run(store, "show", "--known-at", before.isoformat())["days"][1]["note"] == "Christmas"
    assert run(store, "clear")["days"] == 0
    assert announced_days(store) == {}


def test_concurrent_imports_leave_one_of_them(store: Store) -> None:
    at = datetime(2025, 11, 1, tzinfo=UTC)
    calendars = [
        [
            AnnouncedDay(date(2025, 12, 1) + timedelta(days=n), DayKind.PROMOTION)
            for n in range(first, first + 3)
        ]
        for first in range(4)
    ]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda days: replace_calendar(store, days, at), calendars))
    kinds = announced_days(store)
    assert list(kinds) in [[entry.day for entry in days] for days in calendars]
    assert sum(entry.withdrawn_at is None for entry in read_days(store)) == 3
