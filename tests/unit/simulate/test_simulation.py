"""The simulator: exact odds, honest history, a well-formed log, and the same bytes for the same seed."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet
import pytest
from sklearn.metrics import average_precision_score, brier_score_loss

from retail_core import sources
from retail_core.errors import InputError
from retail_core.schemas import EVENT_TYPES
from retail_core.simulate import DRIFTS, SimulationConfig, is_promotion, simulate
from retail_core.simulate.intent import odds_of, simulate_day
from retail_core.simulate.simulation import World
from retail_core.simulate.simulation_config import calendar
from retail_core.sources.event_reader import read_events

CONFIG = SimulationConfig(users=600, days=30, seed=11)


def read_log(path: Path) -> pd.DataFrame:
    frame = pd.read_csv(path, dtype=str)
    return frame.assign(event_time=pd.to_datetime(frame["event_time"], utc=True, format="ISO8601"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("simulated")
    simulate(CONFIG, folder / "log.csv", folder / "truth.parquet")
    return folder


@pytest.fixture(scope="module")
def log(folder: Path) -> pd.DataFrame:
    return read_log(folder / "log.csv")


@pytest.fixture(scope="module")
def user_days() -> pd.DataFrame:
    """Every user and midnight of a large simulation: the truth, the outcome, and what the past shows."""
    config = SimulationConfig(users=12_000, days=40, seed=3)
    world = World(config)
    n = config.users
    views, bought_days, silent = np.zeros(n), np.zeros(n), np.full(n, 99)
    frames = []
    for day in calendar(config):
        mood, cart = world.hidden.mood.copy(), (world.hidden.cart_item >= 0).sum(axis=1)
        probability, purchased, events = world.tomorrow(day)
        if day.index >= 0:
            traits = world.population
            columns = {
                "probability": probability, "purchased": purchased, "mood": mood, "cart": np.minimum(cart, 5),
                "views_yesterday": np.minimum(views, 8), "earlier_purchases": np.minimum(bought_days, 4),
                "days_silent": np.minimum(silent, 8), "weekday": np.full(n, day.date.weekday()),
                "promotion": np.full(n, day.promotion), "platform": traits.platforms[:, 0],
                "newcomer": traits.arrival >= 0, "third": np.full(n, day.index * 3 // config.days),
            }  # fmt: skip
            frames.append(pd.DataFrame(columns)[traits.arrival < day.index])
        views = np.bincount(events.user[events.kind == EVENT_TYPES.index("view_item")], minlength=n)
        bought_days += purchased
        silent = np.where(np.bincount(events.user, minlength=n) > 0, 0, silent + 1)
    return pd.concat(frames, ignore_index=True)


def surprise(rows: pd.DataFrame) -> float:
    """Purchases minus expected ones in standard errors."""
    p = rows["probability"]
    return float((rows["purchased"].sum() - p.sum()) / np.sqrt((p * (1 - p)).sum()))


def test_the_truth_is_calibrated_overall_by_decile_and_in_every_segment(user_days: pd.DataFrame) -> None:
    assert len(user_days) > 300_000
    assert abs(surprise(user_days)) < 4
    deciles = pd.qcut(user_days["probability"].rank(method="first"), 10, labels=False)
    for key in (deciles, *user_days.columns.drop(["probability", "purchased"])):
        for value, rows in user_days.groupby(key):
            if rows["probability"].sum() >= 20:
                assert abs(surprise(rows)) < 4, (key, value, surprise(rows))


def test_no_mark_of_the_past_says_more_about_tomorrow_than_the_truth(user_days: pd.DataFrame) -> None:
    """A regression of what the truth leaves unexplained on the visible past finds nothing."""
    observable = ["cart", "views_yesterday", "earlier_purchases", "days_silent"]
    p = user_days["probability"].to_numpy()
    weight = np.sqrt(p * (1 - p))
    keep = weight > 0.01
    x = user_days.loc[keep, observable].to_numpy(float)
    x = np.column_stack([np.ones(len(x)), x]) * weight[keep, None]
    residual = (user_days["purchased"].to_numpy(float) - p)[keep] / weight[keep]
    covariance = np.linalg.inv(x.T @ x)
    z = covariance @ x.T @ residual / np.sqrt(np.diag(covariance))
    assert np.abs(z).max() < 4, z


def test_brier_and_average_precision_are_those_of_outcomes_drawn_from_the_truth(
    user_days: pd.DataFrame,
) -> None:
    p, y = user_days["probability"].to_numpy(), user_days["purchased"].to_numpy()
    rng = np.random.default_rng(0)
    sampled_scores = [rng.random(len(p)) < p for _ in range(12)]
    for score in (brier_score_loss, average_precision_score):
        expected = np.array([score(sample, p) for sample in sampled_scores])
        assert abs(score(y, p) - expected.mean()) < 5 * expected.std(ddof=1), score


def test_the_odds_are_exact_for_one_midnight_lived_many_times() -> None:
    """From one hidden state, many independent tomorrows: each user's frequency is that user's odds."""
    config, lives = replace(CONFIG, users=400), 3_000
    world = World(config)
    days = list(calendar(config))
    for day in days[:25]:
        world.tomorrow(day)
    today, mood, focus = days[25], world.hidden.mood.copy(), world.hidden.focus.copy()
    odds = odds_of(world.population, world.hidden, today)
    bought = np.zeros(config.users)
    for life in range(lives):
        world.hidden.mood, world.hidden.focus = mood.copy(), focus.copy()
        visits = simulate_day(np.random.default_rng(life), world.population, world.hidden, odds, today)
        bought[visits.user[visits.buys]] += 1
    registered_users = world.population.arrival < today.index
    p = odds.purchase[registered_users]
    assert p.max() > 0.2
    z = (bought[registered_users] - lives * p) / np.sqrt(np.maximum(lives * p * (1 - p), 1))
    assert np.abs(z).max() < 5
    assert abs((z**2).mean() - 1) < 0.35
    assert (bought[registered_users][p == 0] == 0).all()


def test_purchased_is_a_purchase_in_the_24_hours_after_the_midnight(folder: Path, log: pd.DataFrame) -> None:
    truth = pyarrow.parquet.read_table(folder / "truth.parquet").to_pandas()
    buys = log[log["event_type"] == "purchase"]
    bought = set(zip(buys["user_id"], buys["event_time"].dt.floor("D"), strict=True))
    named = [pair in bought for pair in zip(truth["user_id"], truth["as_of"], strict=True)]
    assert truth["purchased"].tolist() == named
    assert truth["as_of"].nunique() == CONFIG.days
    assert not truth.duplicated(["user_id", "as_of"]).any()


def test_the_log_is_sorted_complete_and_reads_without_a_refusal(folder: Path, log: pd.DataFrame) -> None:
    assert log["event_time"].is_monotonic_increasing
    assert log["event_time"].iloc[0] >= pd.Timestamp(CONFIG.start, tz="UTC")
    assert set(log["event_type"]) == set(EVENT_TYPES)
    assert not log.duplicated().any()
    chunks = list(read_events(folder / "log.csv", sources.get_preset("canonical")))
    assert sum(len(chunk.events) for chunk in chunks) == len(log)
    assert not any(chunk.refused for chunk in chunks)
    ids = pd.concat([chunk.events["event_id"] for chunk in chunks])
    assert ids.is_unique


def test_sessions_begin_with_their_start_and_keep_apart(log: pd.DataFrame) -> None:
    visits = log.dropna(subset=["session_id"]).groupby("session_id", sort=False)
    assert (visits["event_type"].first() == "session_start").all()
    spans = visits.agg(
        user_id=("user_id", "first"), begin=("event_time", "min"), end=("event_time", "max"),
        users=("user_id", "nunique"), platforms=("platform", "nunique"),
    ).sort_values(["user_id", "begin"])  # fmt: skip
    assert (spans[["users", "platforms"]] == 1).all(axis=None)
    assert (spans["end"] - spans["begin"]).max() <= pd.Timedelta(minutes=90, seconds=1)
    same_day = (spans["user_id"] == spans["user_id"].shift()) & (
        spans["begin"].dt.floor("D") == spans["end"].shift().dt.floor("D")
    )
    assert (spans["begin"] - spans["end"].shift())[same_day].min() >= pd.Timedelta(minutes=30)


def test_orders_follow_a_checkout_and_refunds_follow_orders(log: pd.DataFrame) -> None:
    lines = log[log["event_type"] == "purchase"]
    refunds = log[log["event_type"] == "refund"]
    assert (lines.groupby("order_id")["event_time"].nunique() == 1).all()
    assert not lines.duplicated(["order_id", "item_id"]).any()
    checkout = log[log["event_type"] == "begin_checkout"].groupby("session_id")["event_time"].min()
    assert (lines["event_time"] > lines["session_id"].map(checkout)).all()
    assert lines[["order_id", "item_id", "price", "quantity", "currency"]].notna().all(axis=None)
    assert lines["price"].str.fullmatch(r"\d+\.\d\d").all()
    assert (lines["order_id"].value_counts() > 1).any()
    sold = lines.set_index(["order_id", "item_id"])["event_time"]
    back = refunds.set_index(["order_id", "item_id"])["event_time"]
    back = back[back.index.isin(sold.index)]
    assert len(back) > 0
    assert (back - sold.loc[back.index] > pd.Timedelta(days=1)).all()


def test_the_same_seed_gives_the_same_bytes_and_another_one_others(folder: Path, tmp_path: Path) -> None:
    simulate(CONFIG, tmp_path / "again.csv", tmp_path / "truth.csv")
    simulate(replace(CONFIG, seed=12), tmp_path / "other.csv")
    first = (folder / "log.csv").read_bytes()
    assert (tmp_path / "again.csv").read_bytes() == first
    assert (tmp_path / "other.csv").read_bytes() != first
    text = pd.read_csv(tmp_path / "truth.csv")
    binary = pyarrow.parquet.read_table(folder / "truth.parquet").to_pandas()
    assert text["as_of"].str.fullmatch(r"\d{4}-\d\d-\d\dT00:00:00Z").all()
    pd.testing.assert_frame_equal(text.assign(as_of=binary["as_of"]), binary)


def test_a_packed_log_holds_the_same_rows_and_is_the_same_file_twice(tmp_path: Path) -> None:
    small = replace(CONFIG, users=40)
    for name in ("a.csv.gz", "b.csv.gz", "c.csv"):
        simulate(small, tmp_path / name)
    assert (tmp_path / "a.csv.gz").read_bytes() == (tmp_path / "b.csv.gz").read_bytes()
    pd.testing.assert_frame_equal(read_log(tmp_path / "a.csv.gz"), read_log(tmp_path / "c.csv"))


@pytest.mark.parametrize("kind", DRIFTS)
def test_a_drift_changes_the_last_third_and_nothing_before(kind: str, folder: Path, tmp_path: Path) -> None:
    config = replace(CONFIG, drift=kind)
    simulate(config, tmp_path / "log.csv")
    drift_start = pd.Timestamp(config.start, tz="UTC") + pd.Timedelta(days=20)
    plain, drifted = (read_log(path / "log.csv") for path in (folder, tmp_path))
    pd.testing.assert_frame_equal(
        plain[plain["event_time"] < drift_start], drifted[drifted["event_time"] < drift_start]
    )
    before, after = plain[plain["event_time"] >= drift_start], drifted[drifted["event_time"] >= drift_start]
    if kind in {"intent", "intent_mild"}:
        upper = {"intent": 0.65, "intent_mild": 0.85}[kind]
        assert _count(after, "purchase") < upper * _count(before, "purchase")
    elif kind == "volume":
        assert _count(after, "session_start") > 1.25 * _count(before, "session_start")
    elif kind == "mix":
        small = ["sport", "garden", "pets"]
        assert after["category"].isin(small).mean() > 2 * before["category"].isin(small).mean()
        assert (after["platform"] == "android").mean() > (before["platform"] == "android").mean() + 0.15
    else:
        android = after["platform"] == "android"
        assert after.loc[android, "brand"].isna().all()
        assert after.loc[~android, "brand"].notna().any()
        assert set(after.loc[android, "event_type"]) - set(EVENT_TYPES) == {"view_promotion"}
        assert after.loc[android, "category"].dropna().str.isupper().all()


def _count(log: pd.DataFrame, kind: str) -> int:
    return int((log["event_type"] == kind).sum())


def test_nothing_half_written_is_visible(tmp_path: Path) -> None:
    out = tmp_path / "log.csv"
    out.write_text("old")

    def stop(done: int, total: int) -> None:
        assert out.read_text() == "old"
        if done == total - 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        simulate(SimulationConfig(users=20, days=5), out, tmp_path / "truth.csv", stop)
    assert [path.name for path in tmp_path.iterdir()] == ["log.csv"]
    assert out.read_text() == "old"


def test_the_smallest_simulation_works_and_reports_its_progress(tmp_path: Path) -> None:
    steps: list[tuple[int, int]] = []
    report = simulate(
        SimulationConfig(users=1, days=3), tmp_path / "a.csv", None, lambda *step: steps.append(step)
    )
    assert steps == [(1, 3), (2, 3), (3, 3)]
    assert report.events == len(read_log(tmp_path / "a.csv"))
    assert report.users <= 1


def test_the_report_counts_what_the_log_holds(folder: Path, log: pd.DataFrame, tmp_path: Path) -> None:
    report = simulate(CONFIG, tmp_path / "log.csv")
    assert (report.events, report.users, report.purchases) == (
        len(log), log["user_id"].nunique(), _count(log, "purchase"),
    )  # fmt: skip


def test_promotion_days_are_two_a_month() -> None:
    days = [day.date for day in calendar(replace(CONFIG, days=365, start=date(2025, 1, 1))) if day.index >= 0]
    promoted = pd.Series([day for day in days if is_promotion(day)])
    assert promoted.map(lambda day: day.month).value_counts().eq(2).all()
    assert len(promoted) == 24


@pytest.mark.parametrize(
    "silly",
    [
        {"users": 0}, {"users": -3}, {"users": True}, {"days": 0}, {"days": 10_000}, {"seed": -1},
        {"drift": "moon"}, {"start": date(1900, 1, 1)}, {"start": date(2099, 12, 30)},
    ],
)  # fmt: skip
def test_silly_arguments_are_refused_with_a_remedy(silly: dict[str, object]) -> None:
    with pytest.raises(InputError, match="Remedy"):
        SimulationConfig(**silly)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("out", "truth"),
    [("log.txt", None), ("no/such/log.csv", None), ("log.csv", "truth.json"), ("log.csv", "log.csv")],
)
def test_files_that_cannot_be_are_refused(out: str, truth: str | None, tmp_path: Path) -> None:
    with pytest.raises(InputError):
        simulate(SimulationConfig(users=1, days=1), tmp_path / out, tmp_path / truth if truth else None)
    assert not any(tmp_path.iterdir())
