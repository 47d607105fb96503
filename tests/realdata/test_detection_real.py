"""Public data sets are recognised by their content; a table that is no log of events is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from retail_core.sources.detection import detect

pytestmark = [pytest.mark.realdata, pytest.mark.long]

FILES = {
    "app_profile/retail_app_data.csv.gz": "app_profile",
    "online_retail/2010-12.csv.gz": "online_retail",
    "online_retail_2010/2010-11.csv.gz": "online_retail",
    "otto/train.jsonl": "otto",
    "rees46/2019-Oct_head.csv.gz": "rees46",
    "taobao/UserBehavior_head.csv.gz": "taobao",
}


@pytest.mark.parametrize("name", FILES)
def test_public_data_sets_are_recognised(shared_data: Path, name: str) -> None:
    assert detect(shared_data / name).preset == FILES[name]


def test_a_table_without_users_and_times_is_no_log(shared_data: Path) -> None:
    result = detect(shared_data / "online_shoppers" / "online_shoppers_intention.csv")
    assert "event_time" in result.missing
    assert "user_id" in result.missing
