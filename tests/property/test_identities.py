"""Identity links: batch equals online, pairs and labels follow the definition, later links change nothing."""

from __future__ import annotations

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from retail_core.attribution import Link
from retail_core.features.batch.attribute_columns import attribute_columns_as_of
from retail_core.features.batch.batch_interpreter import compute_features
from retail_core.features.cutoffs.cutoff_plan import CutoffPlan
from retail_core.features.cutoffs.labels import label_pairs
from retail_core.features.cutoffs.policies import daily_pairs, first_visit_pairs, in_session_pairs
from retail_core.features.event_columns import OnlineEvent
from retail_core.features.feature_set import default_feature_set
from retail_core.features.online.online_interpreter import compute_user_features
from retail_core.features.prediction_task import PredictionTask
from retail_core.features.user_attributes import AttributeEncoding
from retail_core.model.leakage.future_removal import truncate_lake
from retail_core.times import from_micros, to_micros
from tests.examples import examples
from tests.feature_logs import DAY, HOUR, logs, micros, pairs_of, with_links, write_lake
from tests.identity_oracle import owner, random_links

AS_OF = micros("2025-03-31T00:00+00:00")
TASK = PredictionTask(lookback_days=5, eligible_days=3, horizon_hours=24)
FEATURES = default_feature_set(TASK)
BATCH_FEATURES = FEATURES.select(
    name
    for name in FEATURES.names
    if name.endswith(("_1h", "_1d", "_5d")) or "hours" in name or "cart" in name
)
CUTOFFS = [AS_OF - 2 * DAY, AS_OF - 11 * HOUR, AS_OF]
STEP = 11 * HOUR
IDS = "uvwx"


def links_around(start: int = AS_OF - 5 * DAY) -> st.SearchStrategy[list[Link]]:
    return random_links(STEP, 11, IDS).map(
        lambda links: [link._replace(linked_at=start + link.linked_at) for link in links]
    )


def events_of(events: list[OnlineEvent], links: list[Link], user: str, as_of: int) -> list[OnlineEvent]:
    person = owner(links, user, as_of, as_of)
    return [event for event in events if owner(links, event.user_id, event.event_time, as_of) == person]


DATA = settings(max_examples=examples(8), deadline=None, suppress_health_check=list(HealthCheck))


@given(events=logs(AS_OF, 5), links=links_around())
@DATA
def test_batch_features_are_the_online_features_of_the_persons_events(
    events: list[OnlineEvent], links: list[Link], tmp_path_factory: pytest.TempPathFactory
) -> None:
    lake = with_links(write_lake(tmp_path_factory.mktemp("lake"), events), links)
    pairs = pairs_of((user, t) for user in IDS for t in CUTOFFS)
    rows = compute_features(lake, pairs, BATCH_FEATURES)
    names = list(BATCH_FEATURES.columns)
    online = [
        compute_user_features(events_of(events, links, user, to_micros(t)), t, BATCH_FEATURES)
        for user, t in zip(pairs["user_id"], pairs["as_of"].dt.to_pydatetime(), strict=True)
    ]
    expected = pd.DataFrame(online, columns=names, dtype="float64")
    pd.testing.assert_frame_equal(rows[names], expected, rtol=1e-9, atol=1e-9)


@given(events=logs(AS_OF, 5), links=links_around())
@DATA
def test_links_at_or_after_the_cutoff_change_no_feature(
    events: list[OnlineEvent], links: list[Link], tmp_path_factory: pytest.TempPathFactory
) -> None:
    lake = write_lake(tmp_path_factory.mktemp("lake"), events)
    pairs = pairs_of((user, t) for user in IDS for t in CUTOFFS)
    rows = compute_features(with_links(lake, links), pairs, BATCH_FEATURES)
    for cutoff in CUTOFFS:
        cutoff_pairs = pairs[pairs["as_of"] == pd.Timestamp(cutoff, unit="us", tz="UTC")]
        known = with_links(lake, [link for link in links if link.linked_at < cutoff])
        pd.testing.assert_frame_equal(
            compute_features(known, cutoff_pairs, BATCH_FEATURES),
            rows.loc[cutoff_pairs.index],
            check_exact=True,
        )


@given(events=logs(AS_OF, 5), links=links_around())
@DATA
def test_persons_are_eligible_and_have_first_visits_instead_of_their_ids(
    events: list[OnlineEvent], links: list[Link], tmp_path_factory: pytest.TempPathFactory
) -> None:
    lake = with_links(write_lake(tmp_path_factory.mktemp("lake"), events), links)
    eligible = {
        (owner(links, event.user_id, event.event_time, t), t)
        for t in CUTOFFS
        for event in events
        if t - 3 * DAY <= event.event_time < t
    }
    pairs = daily_pairs(lake, TASK, [from_micros(t) for t in CUTOFFS])
    assert _keys(pairs) == sorted(eligible, key=lambda pair: pair[::-1])
    first = {}
    for event in sorted(events, key=lambda event: event.event_time):
        if event.event_time < AS_OF:
            first.setdefault(event.user_id, event.event_time)
    visits = set()
    for user, time in first.items():
        person = owner(links, user, time, time + 1_000_000)
        history = events_of(events, links, person, time + 1_000_000)
        if time + 1_000_000 <= AS_OF and not any(event.event_time < time for event in history):
            visits.add((person, time + 1_000_000))
    assert _keys(first_visit_pairs(lake, from_micros(AS_OF))) == sorted(visits, key=lambda pair: pair[::-1])


@given(events=logs(AS_OF, 5), links=links_around())
@DATA
def test_in_session_instants_are_those_of_the_persons(
    events: list[OnlineEvent], links: list[Link], tmp_path_factory: pytest.TempPathFactory
) -> None:
    lake = write_lake(tmp_path_factory.mktemp("lake"), events)
    plan = CutoffPlan((from_micros(AS_OF - 5 * DAY),), ())
    before = from_micros(AS_OF)
    raw = in_session_pairs(lake, TASK, plan, before)
    pairs = _keys(in_session_pairs(with_links(lake, links), TASK, plan, before))
    assert {t for _, t in pairs} == {t for _, t in _keys(raw)}
    for person, t in pairs:
        own = events_of(events, links, person, t)
        assert owner(links, person, t, t) == person or own
        assert any(0 < t - event.event_time < HOUR // 2 for event in own)


@given(events=logs(AS_OF, 5), links=links_around())
@DATA
def test_a_label_counts_purchases_of_the_person_as_known_at_the_end_of_the_horizon(
    events: list[OnlineEvent], links: list[Link], tmp_path_factory: pytest.TempPathFactory
) -> None:
    lake = with_links(write_lake(tmp_path_factory.mktemp("lake"), events), links)
    pairs = pairs_of((user, t) for user in IDS for t in CUTOFFS)
    expected = []
    for user, t in _keys(pairs):
        end = t + DAY
        person = owner(links, user, t, end)
        expected.append(
            any(
                t <= event.event_time < end
                and event.event_type == "purchase"
                and owner(links, event.user_id, event.event_time, end) == person
                for event in events
            )
        )
    assert label_pairs(lake, TASK, pairs).tolist() == expected


@given(
    dates=st.lists(st.tuples(st.sampled_from("uvw"), st.integers(0, 11), st.integers(1, 9)), max_size=8),
    links=links_around(),
)
@DATA
def test_attributes_are_the_latest_of_all_ids_of_the_person(
    dates: list[tuple[str, int, int]], links: list[Link], tmp_path_factory: pytest.TempPathFactory
) -> None:
    start = AS_OF - 5 * DAY
    users = [
        {"user_id": user, "valid_from": from_micros(start + n * STEP), "attributes": f'{{"age":{age}}}'}
        for user, n, age in dates
    ]
    lake = with_links(write_lake(tmp_path_factory.mktemp("lake"), [], users), links)
    pairs = pairs_of((user, t) for user in IDS for t in CUTOFFS)
    ages = attribute_columns_as_of(lake, pairs, [AttributeEncoding("age", "number")])["attr_age"]
    for age, (user, t) in zip(ages, _keys(pairs), strict=True):
        person = owner(links, user, t, t)
        valid = [
            (start + n * STEP, str(value))
            for name, n, value in dates
            if start + n * STEP <= t and owner(links, name, start + n * STEP, t) == person
        ]
        assert (age == float(max(valid)[1])) if valid else pd.isna(age)


def _keys(pairs: pd.DataFrame) -> list[tuple[str, int]]:
    times = [to_micros(t) for t in pairs["as_of"].dt.to_pydatetime()]
    return list(zip(pairs["user_id"], times, strict=True))


def test_an_anonymous_user_that_logs_in_and_buys_is_a_buyer(tmp_path_factory: pytest.TempPathFactory) -> None:
    login = AS_OF + 2 * HOUR
    events = [
        OnlineEvent("1", "a1", AS_OF - HOUR, "add_to_cart", "p"),
        OnlineEvent("2", "k1", login, "purchase", "p"),
    ]
    lake = with_links(write_lake(tmp_path_factory.mktemp("lake"), events), [Link("a1", "k1", login)])
    day_after = AS_OF + DAY
    assert _keys(daily_pairs(lake, TASK, [from_micros(AS_OF), from_micros(day_after)])) == [
        ("a1", AS_OF), ("k1", day_after)
    ]  # fmt: skip
    assert label_pairs(lake, TASK, pairs_of([("a1", AS_OF), ("a1", AS_OF - DAY)])).tolist() == [True, False]
    early = PredictionTask(horizon_hours=2)
    assert label_pairs(lake, early, pairs_of([("a1", AS_OF)])).tolist() == [False]
    rows = compute_features(
        lake, pairs_of([("k1", day_after), ("k1", AS_OF), ("a1", day_after)]), BATCH_FEATURES
    )
    assert rows["add_to_cart_count_5d"].tolist() == [1.0, 0.0, 1.0]
    assert rows["purchase_count_5d"].tolist() == [1.0, 0.0, 1.0]
    assert rows["user_id"].tolist() == ["k1", "k1", "a1"]


@given(events=logs(AS_OF, 5), links=links_around())
@settings(max_examples=examples(4), deadline=None, suppress_health_check=list(HealthCheck))
def test_the_leakage_guard_sees_no_future_in_linked_histories(
    events: list[OnlineEvent], links: list[Link], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("lake")
    lake = with_links(write_lake(folder, events), links)
    at_once = pairs_of((user, CUTOFFS[1]) for user in IDS)
    own_cutoffs = pairs_of(zip("uvw", CUTOFFS, strict=True))
    for number, pairs in enumerate((at_once, own_cutoffs)):
        cut = folder / str(number)
        cut.mkdir()
        pd.testing.assert_frame_equal(
            compute_features(truncate_lake(lake, pairs, cut), pairs, BATCH_FEATURES),
            compute_features(lake, pairs, BATCH_FEATURES),
            check_exact=True,
        )
