"""How alike the simulation is to real logs, and how predictable: prints the tables of docs/simulator.md.

Run `python -m tests.benchmarks.likeness` in the repository root; the real columns need ../shared/data.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import duckdb
import numpy as np
import pandas as pd

from retail_core.simulate import SimulationConfig, simulate

SHARED_DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
ITEM_KINDS = "('view_item', 'add_to_cart', 'add_to_wishlist', 'purchase')"
WEEKDAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")


class Cell(NamedTuple):
    """A figure of the table: as printed, and its numbers."""

    text: str
    values: tuple[float, ...]

    @classmethod
    def of(cls, form: str, *values: float) -> Cell:
        return cls(form.format(*values), values)


Table = dict[str, Cell]


def load_simulation(con: duckdb.DuckDBPyConnection, path: Path) -> None:
    """Table `simulation`: the item events of a simulated log, UTC."""
    con.execute(f"""
        create or replace table simulation as
        select user_id, strptime(event_time, '%Y-%m-%dT%H:%M:%S.%gZ') as ts, event_type as kind, item_id,
            order_id, try_cast(price as double) as price
        from read_csv('{path}', all_varchar = true) where event_type in {ITEM_KINDS}""")


def load_taobao(con: duckdb.DuckDBPyConnection) -> None:
    """Table `taobao`: the nine days of the head, Shanghai time."""
    con.execute(f"""
        create or replace table taobao as
        select * from (
            select column0 as user_id, make_timestamp((column4::bigint + 8 * 3600) * 1000000) as ts,
                case column3 when 'pv' then 'view_item' when 'cart' then 'add_to_cart'
                    when 'fav' then 'add_to_wishlist' when 'buy' then 'purchase' end as kind,
                column1 as item_id, null as order_id, null::double as price
            from read_csv('{SHARED_DATA}/taobao/UserBehavior_head.csv.gz', header = false, all_varchar = true,
                null_padding = true) where column4 is not null)
        where ts >= timestamp '2017-11-25' and ts < timestamp '2017-12-04'""")


def load_online_retail(con: duckdb.DuckDBPyConnection) -> None:
    """Table `online_retail`: sold lines with a customer."""
    con.execute(f"""
        create or replace table online_retail as
        select CustomerID as user_id, InvoiceDate::timestamp as ts, 'purchase' as kind, StockCode as item_id,
            InvoiceNo as order_id, UnitPrice::double as price
        from read_csv('{SHARED_DATA}/online_retail/*.csv.gz', all_varchar = true)
        where CustomerID is not null and InvoiceNo not like 'C%' and Quantity::int > 0""")


def measure(con: duckdb.DuckDBPyConnection, table: str) -> Table:
    """Every row of the likeness table for one log."""
    con.execute(f"create or replace temp view log as select * from {table}")
    result = {**_volume(con), **_base_rate(con), **_buying(con), **_rhythm(con)}
    if _single_row(con, "select count(*) from log where kind = 'view_item'")[0]:
        result |= {**_funnel(con), **_sessions(con)}
    return result


def _volume(con: duckdb.DuckDBPyConnection) -> Table:
    con.execute("""create or replace temp table per_user as
        select user_id, count(*) as n, count(distinct ts::date) as days,
            count(distinct ts::date) filter (kind = 'purchase') as buying_days,
            count(*) filter (kind = 'purchase') as lines
        from log group by all""")
    counts = con.execute("select n from per_user order by n").df()["n"].to_numpy(dtype=float)
    gini = float(2 * (np.arange(1, len(counts) + 1) * counts).sum() / (len(counts) * counts.sum()))
    events, span = _single_row(con, "select count(*), date_diff('day', min(ts), max(ts)) + 1 from log")
    return {
        "item events": Cell.of("{:,}", events),
        "users": Cell.of("{:,}", len(counts)),
        "days": Cell.of("{}", span),
        "events per user, quantiles 10/25/50/75/90/99 %": _quantiles(counts, (10, 25, 50, 75, 90, 99)),
        "Gini of events per user": Cell.of("{:.2f}", gini - (len(counts) + 1) / len(counts)),
        "active days per user, mean; quartiles": _mean_quartiles(con, "select days from per_user"),
    }


def _base_rate(con: duckdb.DuckDBPyConnection) -> Table:
    con.execute("""create or replace temp table daily as
        select user_id, ts::date as day, bool_or(kind = 'purchase') as bought from log group by all""")
    rate, n = _single_row(
        con,
        """with cuts as (select distinct day as cut from daily where day >= (select min(day) + 7 from daily)),
        eligible as (select distinct c.cut, d.user_id from cuts c
            join daily d on d.day >= c.cut - 7 and d.day < c.cut)
        select avg(coalesce(d.bought, false)::int), count(*)
        from eligible e left join daily d on d.user_id = e.user_id and d.day = e.cut""",
    )
    share, buyers_active = _single_row(
        con,
        """select avg(bought::int), avg(active::double) from
        (select bought, count(*) over (partition by day) as active from daily)""",
    )
    return {
        "buyers next day among 7-day-active users": Cell.of("{:.1%} (n = {:,})", rate, n),
        "buyers among the day's visitors": Cell.of("{:.1%}", share),
        "users a day": Cell.of("{:,.0f}", buyers_active),
    }


def _buying(con: duckdb.DuckDBPyConnection) -> Table:
    ever, repeat = _single_row(
        con,
        """select avg((buying_days > 0)::int), avg((buying_days > 1)::int) filter (buying_days > 0)
        from per_user""",
    )
    lines, orders = _single_row(
        con,
        """select count(*), count(distinct (user_id, coalesce(order_id, ts::varchar))) from log
        where kind = 'purchase'""",
    )
    gaps = """select date_diff('day', lag(day) over (partition by user_id order by day), day)
        from daily where bought"""
    buyers = con.execute("select lines from per_user where lines > 0").df()["lines"].to_numpy(dtype=float)
    top = np.sort(buyers)[::-1][: max(len(buyers) // 10, 1)].sum() / buyers.sum()
    return {
        "users who ever bought": Cell.of("{:.0%}", ever),
        "buyers with a second buying day": Cell.of("{:.0%}", repeat),
        "days between buying days, mean; quartiles": _mean_quartiles(con, gaps),
        "lines per order": Cell.of("{:.1f}", lines / orders),
        "lines bought by the top tenth of buyers": Cell.of("{:.0%}", top),
    }


def _rhythm(con: duckdb.DuckDBPyConnection) -> Table:
    days = con.execute(
        """select isodow(ts) as d, count(*) / count(distinct ts::date) as n from log group by 1"""
    )
    mean = days.df().set_index("d")["n"].reindex(range(1, 8), fill_value=0)
    index = mean / mean[mean > 0].mean()
    hours = con.execute("select hour(ts) as h, count(*) as n from log group by 1").df().set_index("h")["n"]
    share = hours.reindex(range(24), fill_value=0) / hours.sum()
    return {
        "events by weekday (1 = mean day)": Cell.of(" ".join(f"{day} {{:.2f}}" for day in WEEKDAYS), *index),
        "share of events 0-6, 6-12, 12-18, 18-24 h": Cell.of(
            "{:.0%} {:.0%} {:.0%} {:.0%}", *(share.iloc[h : h + 6].sum() for h in (0, 6, 12, 18))
        ),
    }


def _funnel(con: duckdb.DuckDBPyConnection) -> Table:
    views, carts, wishes, bought = _single_row(
        con,
        """select count(*) filter (kind = 'view_item'), count(*) filter (kind = 'add_to_cart'),
        count(*) filter (kind = 'add_to_wishlist'), count(*) filter (kind = 'purchase') from log""",
    )
    con.execute("""create or replace temp table lags as
        select b.user_id, b.item_id, b.ts, max(c.ts) as carted from log b
        left join log c on c.kind = 'add_to_cart' and c.user_id = b.user_id and c.item_id = b.item_id
            and c.ts <= b.ts
        where b.kind = 'purchase' group by all""")
    share, same = _single_row(
        con,
        """select count(carted) / count(*), avg((ts::date = carted::date)::int) filter (carted is not null)
        from lags""",
    )
    lag = "select epoch(ts - carted) / 3600 from lags where carted is not null"
    used = _single_row(
        con,
        """select avg((exists (select 1 from log b where b.kind = 'purchase' and b.user_id = c.user_id
            and b.item_id = c.item_id and b.ts >= c.ts))::int) from log c where kind = 'add_to_cart'""",
    )[0]
    repeated_views = _single_row(
        con,
        """select sum(n) filter (n > 1) / sum(n) from
        (select count(*) as n from log where kind = 'view_item' group by user_id, item_id)""",
    )[0]
    return {
        "views per purchase line": Cell.of("{:.0f}", views / bought),
        "carts per purchase line": Cell.of("{:.1f}", carts / bought),
        "wishlist additions per purchase line": Cell.of("{:.1f}", wishes / bought),
        "purchase lines with an earlier cart of the item": Cell.of("{:.0%}", share),
        "cart to purchase, hours, mean; quartiles": _mean_quartiles(con, lag),
        "of these on the same day": Cell.of("{:.0%}", same),
        "cart adds bought later": Cell.of("{:.0%}", used),
        "views of items viewed more than once": Cell.of("{:.0%}", repeated_views),
    }


def _sessions(con: duckdb.DuckDBPyConnection) -> Table:
    con.execute("""create or replace temp table stepped as
        select *, sum((gap is null or gap > 1800)::int) over
            (partition by user_id order by ts rows unbounded preceding) as visit
        from (select user_id, ts, kind, epoch(ts - lag(ts) over (partition by user_id order by ts)) as gap
            from log)""")
    con.execute("""create or replace temp table visits as
        select user_id, visit, min(ts)::date as day, count(*) as n, epoch(max(ts) - min(ts)) / 60 as minutes,
            bool_or(kind = 'purchase') as bought from stepped group by user_id, visit""")
    gaps = "select gap from stepped where gap <= 1800"
    per_day = "select count(*) from visits group by user_id, day"
    return {
        "sessions per active user-day, mean; quartiles": _mean_quartiles(con, per_day),
        "item events per session, mean; quartiles": _mean_quartiles(con, "select n from visits"),
        "item events per session, 99 %": Cell.of(
            "{:.0f}", *_single_row(con, "select quantile_cont(n, 0.99) from visits")
        ),
        "session length, minutes, mean; quartiles": _mean_quartiles(con, "select minutes from visits"),
        "gap within a session, seconds, mean; quartiles": _mean_quartiles(con, gaps),
        "sessions with a purchase": Cell.of(
            "{:.1%}", *_single_row(con, "select avg(bought::int) from visits")
        ),
    }


def predictability(con: duckdb.DuckDBPyConnection, log: Path, truth: Path, warm: int = 21) -> pd.DataFrame:
    """Average precision and Brier score of the truth, of rules and of a plain model on the last week.

    Population: users with an event in the 7 days before the midnight, cut-offs of the last seven days.
    """
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.metrics import average_precision_score, brier_score_loss

    rows = cutoff_rows(con, log, truth, warm)
    days = sorted(rows["as_of"].unique())
    test = rows[rows["as_of"] >= days[-7]]
    train = rows[rows["as_of"] < days[-8]]
    names = [c for c in rows.columns if c not in ("user_id", "as_of", "probability", "purchased")]
    model = HistGradientBoostingClassifier(
        max_iter=150, learning_rate=0.05, max_leaf_nodes=15, min_samples_leaf=200, random_state=0
    ).fit(train[names], train["purchased"])
    base = np.full(len(test), train["purchased"].mean())
    scores = {
        "true probability": test["probability"],
        f"boosted trees on {len(names)} features": model.predict_proba(test[names])[:, 1],
        "rule: newest open cart": -test["h_cart_open"].fillna(1e6),
        "rule: newest event": -test["h_event"].fillna(1e6),
        "rule: views in 24 h": test["view_item_1"],
        "base rate": base,
    }
    probabilities = ("true probability", "boosted trees", "base rate")
    return pd.DataFrame(
        [
            {
                "score": name,
                "AP": average_precision_score(test["purchased"], score),
                "Brier": brier_score_loss(test["purchased"], score)
                if name.startswith(probabilities)
                else None,
                "rows": len(test),
                "buyers": int(test["purchased"].sum()),
            }
            for name, score in scores.items()
        ]
    )


def cutoff_rows(con: duckdb.DuckDBPyConnection, log: Path, truth: Path, warm: int) -> pd.DataFrame:
    """One row per 7-day-active user and midnight from day `warm` on: a few dozen features and the truth."""
    con.execute(f"""create or replace temp table raw as
        select user_id, strptime(event_time, '%Y-%m-%dT%H:%M:%S.%gZ') as ts, event_type as kind, item_id
        from read_csv('{log}', all_varchar = true)""")
    con.execute(f"""create or replace temp table answers as
        select user_id, as_of::timestamp as as_of, probability, purchased from '{truth}'""")
    kinds = (
        "view_item",
        "add_to_cart",
        "begin_checkout",
        "purchase",
        "search",
        "add_to_wishlist",
        "session_start",
    )
    counts = ",\n".join(
        f"count(*) filter (kind = '{kind}' and ts >= t - interval {days} day) as {kind}_{days}"
        for kind in kinds
        for days in (1, 3, 7, 28)
    )
    since = ",\n".join(
        f"epoch(t - max(ts) filter (kind = '{kind}')) / 3600 as h_{kind}"
        for kind in kinds
        if kind != "search"
    )
    frames = []
    for (cut,) in con.execute("select distinct as_of from answers order by 1").fetchall()[warm:]:
        frames.append(
            con.execute(
                f"""with recent as (select *, timestamp '{cut}' as t from raw
                    where ts < timestamp '{cut}' and ts >= timestamp '{cut}' - interval 28 day),
                open as (select user_id, max(epoch_ms(ts)) as ts, count(*) as lines from (
                    select user_id, item_id, max(ts) filter (kind = 'add_to_cart') as ts,
                        max(ts) filter (kind in ('purchase', 'remove_from_cart')) as gone
                    from recent group by all)
                    where ts is not null and (gone is null or gone < ts) group by 1),
                repeats as (select user_id, max(n) as most from (select user_id, item_id, count(*) as n
                    from recent where kind = 'view_item' and ts >= t - interval 3 day group by all)
                    group by 1)
                select a.user_id, a.as_of, a.probability, a.purchased, f.* exclude user_id,
                    (epoch_ms(a.as_of) - o.ts) / 3600000.0 as h_cart_open, o.lines as cart_lines, r.most
                from answers a join (
                    select user_id, epoch(any_value(t) - max(ts)) / 3600 as h_event,
                        count(distinct ts::date) as days_28,
                        count(distinct ts::date) filter (ts >= t - interval 7 day) as days_7,
                        isodow(any_value(t)) as weekday, {counts}, {since}
                    from recent group by user_id, t having max(ts) >= any_value(t) - interval 7 day) f
                    using (user_id)
                left join open o using (user_id) left join repeats r using (user_id)
                where a.as_of = timestamp '{cut}'"""
            ).df()
        )
    return pd.concat(frames, ignore_index=True)


def _single_row(con: duckdb.DuckDBPyConnection, query: str) -> tuple[float, ...]:
    row = con.execute(query).fetchone()
    assert row is not None
    return row


def _quantiles(values: np.ndarray, percents: Sequence[int]) -> Cell:
    return Cell.of(" / ".join(["{:,.0f}"] * len(percents)), *np.percentile(values, percents))


def _mean_quartiles(con: duckdb.DuckDBPyConnection, query: str) -> Cell:
    values = pd.to_numeric(con.execute(query).df().iloc[:, 0]).dropna().to_numpy(dtype=float)
    return Cell.of("{:.1f}; {:.1f} / {:.1f} / {:.1f}", values.mean(), *np.percentile(values, (25, 50, 75)))


def likeness(con: duckdb.DuckDBPyConnection) -> pd.DataFrame:
    """The likeness table: measures by logs. The table `simulation` must be loaded."""
    con.execute("""create or replace temp view nine as select * from simulation
        where ts >= (select max(ts)::date - 8 from simulation)""")
    columns = {"simulation": "simulation", "its last 9 days": "nine"}
    if SHARED_DATA.is_dir():
        load_taobao(con)
        load_online_retail(con)
        con.execute("""create or replace temp view nine_active as select * from nine where user_id in
            (select user_id from nine group by 1 having count(*) >= 20)""")
        columns |= {
            "those, 20+ events": "nine_active",
            "Taobao head": "taobao",
            "Online Retail": "online_retail",
        }
    measured = {name: measure(con, table) for name, table in columns.items()}
    order = list(dict.fromkeys(row for table in measured.values() for row in table))
    texts = {name: {row: cell.text for row, cell in table.items()} for name, table in measured.items()}
    return pd.DataFrame(texts, index=order).fillna("-")


def main() -> None:
    """Simulate with the defaults, measure, print Markdown."""
    with tempfile.TemporaryDirectory() as folder:
        log, truth = Path(folder) / "log.csv", Path(folder) / "truth.parquet"
        print(simulate(SimulationConfig(), log, truth))
        con = duckdb.connect()
        load_simulation(con, log)
        _print(likeness(con).reset_index(names="measure"))
        _print(predictability(con, log, truth).round(4))


def _print(frame: pd.DataFrame) -> None:
    print("\n| " + " | ".join(frame.columns) + " |\n" + "|---" * len(frame.columns) + "|")
    for row in frame.itertuples(index=False):
        print("| " + " | ".join(str(value) for value in row) + " |")


if __name__ == "__main__":
    main()
