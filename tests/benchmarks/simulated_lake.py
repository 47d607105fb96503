"""A simulated shop's log as a folder of Parquet files laid out like the lake, without MongoDB between."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path

import duckdb

from retail_core.schemas import EVENT_ARROW
from retail_core.simulate import SimulationConfig, simulate

START = date(2025, 1, 1)

_READ = """
    select printf('%032x', row_number() over ()) event_id, user_id::varchar user_id, event_time, event_type,
        item_id::varchar item_id, category, brand, round(price * 100)::bigint price_minor,
        quantity::bigint quantity, currency, session_id, platform,
        order_id::varchar order_id, null::varchar properties
    from read_csv(?, types={'event_time': 'timestamptz', 'user_id': 'varchar', 'item_id': 'varchar',
        'order_id': 'varchar', 'price': 'double', 'quantity': 'bigint'})
"""


@dataclass(frozen=True)
class DayFiles:
    """A folder with one Parquet file a day, named by the day."""

    folder: Path

    def files(self, start: datetime | None = None, end: datetime | None = None) -> list[str]:
        return [
            str(path)
            for path in sorted(self.folder.glob("*.parquet"))
            if (start is None or path.stem >= start.date().isoformat())
            and (end is None or path.stem <= end.date().isoformat())
        ]

    def users_file(self) -> str | None:
        return None

    def identities_file(self) -> str | None:
        return None


def simulated_days(
    folder: Path, users: int, days: int, seed: int = 7, drift: str | None = None
) -> tuple[DayFiles, int]:
    """The lake of `retail simulate`, sorted by user and time within a day; and how many events it has."""
    log = folder / "log.csv"
    events = simulate(
        SimulationConfig(users=users, days=days, seed=seed, start=START, drift=drift), log
    ).events
    columns = ", ".join(EVENT_ARROW.names)
    with duckdb.connect() as connection:
        connection.execute("set timezone = 'UTC'")
        connection.execute(f"create table log as {_READ}", [str(log)])
        for day in (START + timedelta(days=n) for n in range(days + 1)):
            inside = f"event_time >= '{day}' and event_time < '{day + timedelta(days=1)}'"
            query = f"select {columns} from log where {inside} order by user_id, event_time, event_id"
            target = folder / f"{day}.parquet"
            connection.execute(f"copy ({query}) to '{target}' (compression zstd, row_group_size 100000)")
    log.unlink()
    return DayFiles(folder), events
