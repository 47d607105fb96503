"""A bounded part of the benchmarks of the triggers: one small shop, quiet and with the odds of buying cut."""

from __future__ import annotations

from pathlib import Path

from tests.benchmarks.trigger_replay import alarms, first_alarm
from tests.benchmarks.trigger_shops import Champion, cached_champions, simulate_champions, store_champions

DAYS = 8


def test_cut_odds_fire_calibration_alone_and_a_quiet_shop_nothing(tmp_path: Path) -> None:
    shops = simulate_champions(4_100, 2_500, 5, (None, "intent"), DAYS)
    quiet, drifted = shops[None], shops["intent"]
    assert [alarm.evidence for alarm in alarms([quiet])] == []
    assert quiet.days[:-DAYS] == drifted.days[:-DAYS], "the branches share all days before the change"
    changed = drifted.days[-DAYS].day
    assert set(first_alarm(list(alarms([drifted])), changed)) == {"calibration"}
    assert is_plausible(quiet)
    store_champions(tmp_path / "shop.json", [quiet])
    assert cached_champions(tmp_path / "shop.json") == [quiet]


def is_plausible(champion: Champion) -> bool:
    """Whether promised and observed buyers agree within a third over all days."""
    promised, observed = (sum(getattr(d, name) for d in champion.days) for name in ("promised", "buyers"))
    return bool(abs(observed / promised - 1) < 1 / 3)
