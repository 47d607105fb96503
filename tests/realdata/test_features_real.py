"""Batch and online features agree on the real Taobao log; cut-offs and labels are what is known of it."""

from __future__ import annotations

from collections import defaultdict
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from retail_core.features.batch import compute
from retail_core.features.context import shop_on
from retail_core.features.cutoffs import daily_pairs, labelled_cutoffs
from retail_core.features.definitions import Question, default_feature_set
from retail_core.features.labels import label
from retail_core.features.online import OnlineEvent, compute_one
from retail_core.features.shop_measures import local_day
from retail_core.times import parse_instant
from tests.feature_logs import FolderLake, write_lake

pytestmark = pytest.mark.realdata

QUESTION = Question(timezone="Asia/Shanghai")
TYPES = {"pv": "view_item", "cart": "add_to_cart", "fav": "add_to_wishlist", "buy": "purchase"}


@pytest.fixture(scope="module")
def taobao(
    shared_data: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[FolderLake, list[OnlineEvent]]:
    names = ["user_id", "item_id", "category", "kind", "seconds"]
    path = shared_data / "taobao" / "UserBehavior_head.csv.gz"
    rows = pd.read_csv(path, names=names, dtype=str).dropna().drop_duplicates()
    rows = rows[rows["kind"].isin(TYPES) & rows["seconds"].str.fullmatch(r"\d{9,10}")]
    events = [
        OnlineEvent(
            f"{i:032x}", row.user_id, int(row.seconds) * 1_000_000, TYPES[row.kind], row.item_id, row.category
        )
        for i, row in enumerate(rows.itertuples())
    ]
    return write_lake(tmp_path_factory.mktemp("taobao"), events), events


def test_taobao_batch_equals_online(taobao: tuple[FolderLake, list[OnlineEvent]]) -> None:
    """To the bit, for 300 pairs of daily and arbitrary cut-offs."""
    lake, events = taobao
    feature_set = default_feature_set(QUESTION)
    plan = labelled_cutoffs(lake, QUESTION, parse_instant("2017-12-03T00:00:00+08:00"))
    pairs = daily_pairs(lake, QUESTION, plan.cutoffs).sample(200, random_state=7, ignore_index=True)
    odd = pairs.sample(100, random_state=8, ignore_index=True)
    odd["as_of"] += pd.to_timedelta(np.random.default_rng(9).integers(1, 86_400_000, len(odd)), unit="ms")
    every = pd.concat([pairs, odd.astype(pairs.dtypes.to_dict())], ignore_index=True)

    by_user: dict[str, list[OnlineEvent]] = defaultdict(list)
    for event in events:
        by_user[event.user_id].append(event)
    shop = shop_on(lake, QUESTION, {local_day(t, QUESTION) for t in every["as_of"].dt.to_pydatetime()})
    rows = [
        compute_one(by_user[user], as_of, feature_set, context=shop[local_day(as_of, QUESTION)])
        for user, as_of in zip(every["user_id"], every["as_of"].dt.to_pydatetime(), strict=True)
    ]
    online = pd.DataFrame(rows, dtype="float64")

    batch = compute(lake, every, feature_set)
    pd.testing.assert_frame_equal(batch[list(online)], online, check_exact=True)
    daily = compute(lake, pairs, feature_set)
    pd.testing.assert_frame_equal(daily[list(online)], online.iloc[: len(pairs)], check_exact=True)


def test_taobao_cutoffs_and_base_rate(taobao: tuple[FolderLake, list[OnlineEvent]]) -> None:
    """Nine days, no gap; the strays outside them are not the log; 17 to 18 % of the active buy next day."""
    lake, _ = taobao
    plan = labelled_cutoffs(lake, QUESTION, parse_instant("2017-12-03T00:00:00+08:00"))
    assert plan.gaps == ()
    assert plan.first_day is not None
    assert plan.first_day.isoformat() == "2017-11-25"
    first = datetime(2017, 11, 26, 16, tzinfo=UTC)
    assert list(plan.cutoffs) == [first + timedelta(days=n) for n in range(6)]
    pairs = daily_pairs(lake, QUESTION, [plan.cutoffs[-1]])
    assert 0.16 < label(lake, QUESTION, pairs).mean() < 0.20
