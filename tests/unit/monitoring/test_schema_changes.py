"""Changes of types, fields, platforms and vocabularies in made-up profiles, and quiet shops without any."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import date, timedelta

import numpy as np
import pytest

from retail_core.monitoring.profiles.day_profile import DayProfile, FieldValues, PlatformDay, TypeCounts
from retail_core.monitoring.schema_changes import find_schema_changes
from retail_core.monitoring.schema_check import check_schema
from retail_core.monitoring.trigger_check import Action

FIRST = date(2025, 1, 6)
SHARES = {"view_item": 0.9, "add_to_cart": 0.2, "purchase": 0.05, "refund": 0.01}
PLATFORMS = {"web": 120, "ios": 60}
Rules = Mapping[str, float]
Edit = Callable[[PlatformDay], PlatformDay]


def platform_day(generator: np.random.Generator, users: int, shares: Rules) -> PlatformDay:
    active = max(1, generator.poisson(users))
    counts = {kind: generator.binomial(active, share) for kind, share in shares.items()}
    types = {
        kind: TypeCounts(
            3 * n, n, {"item_id": 3 * n, "price_minor": 3 * n, "brand": generator.binomial(3 * n, 0.7)}
        )
        for kind, n in counts.items()
        if n
    }
    categories = generator.multinomial(active, np.full(8, 1 / 8))
    values = {
        "currency": FieldValues({"EUR": max(1, counts.get("purchase", 0))}),
        "category": FieldValues({f"category-{n}": int(users) for n, users in enumerate(categories) if users}),
    }
    return PlatformDay(sum(entry.events for entry in types.values()), active, types, values)


def shop(days: int = 50, seed: int = 0, size: float = 1.0) -> list[DayProfile]:
    """Quiet days with a weekly rhythm."""
    generator = np.random.default_rng(seed)
    profiles = []
    for number in range(days):
        factor = size * (0.5 if number % 7 >= 5 else 1.0)
        platforms = {
            name: platform_day(generator, round(users * factor), SHARES) for name, users in PLATFORMS.items()
        }
        users = sum(platform.users for platform in platforms.values())
        profiles.append(DayProfile(FIRST + timedelta(days=number), users * 3, users, platforms))
    return profiles


def changed(profiles: list[DayProfile], days: int, edit: Edit, platform: str = "ios") -> list[DayProfile]:
    """Profiles of which the newest days of one platform are edited."""
    return [
        *profiles[:-days],
        *(
            replace(day, platforms={**day.platforms, platform: edit(day.platforms[platform])})
            for day in profiles[-days:]
        ),
    ]


def without_brand(platform: PlatformDay) -> PlatformDay:
    return replace(
        platform,
        types={
            kind: replace(counts, filled={**counts.filled, "brand": 0})
            for kind, counts in platform.types.items()
        },
    )


def renamed(platform: PlatformDay) -> PlatformDay:
    names = {"add_to_cart": "AddToBasket"}
    return replace(platform, types={names.get(kind, kind): counts for kind, counts in platform.types.items()})


def without_carts(platform: PlatformDay) -> PlatformDay:
    return replace(platform, types={k: v for k, v in platform.types.items() if k != "add_to_cart"})


def with_promotions(platform: PlatformDay) -> PlatformDay:
    return replace(platform, types={**platform.types, "view_promotion": TypeCounts(60, 20)})


def other_categories(platform: PlatformDay) -> PlatformDay:
    users = {value.upper(): count for value, count in platform.values["category"].users.items()}
    return replace(platform, values={**platform.values, "category": FieldValues(users)})


def other_currency(platform: PlatformDay) -> PlatformDay:
    return replace(platform, values={**platform.values, "currency": FieldValues({"eur": 30})})


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("size", [0.1, 1.0, 10.0])
def test_quiet_shops_have_no_changes(seed: int, size: float) -> None:
    profiles = shop(49, seed, size)
    changes = [find_schema_changes(profiles[:end]).changes for end in range(15, 50, 4)]
    assert [found for found in changes if found] == []


@pytest.mark.parametrize(
    ("edit", "days", "text"),
    [
        (without_brand, 1, "field brand of view_item on ios: empty (7"),
        (renamed, 2, "event type add_to_cart -> AddToBasket on ios: renamed"),
        (without_carts, 4, "event type add_to_cart on ios: vanished"),
        (with_promotions, 1, "event type view_promotion"),
        (other_categories, 1, "category values on ios: unknown values (0.0% -> 100.0%)"),
        (other_currency, 1, "currency EUR -> eur on ios: renamed"),
    ],
)
def test_a_change_on_one_platform_is_named(edit: Edit, days: int, text: str) -> None:
    sentences = [str(change) for change in find_schema_changes(changed(shop(), days, edit)).changes]
    assert any(sentence.startswith(text) for sentence in sentences), sentences
    assert all(" on web" not in sentence for sentence in sentences)


def test_a_platform_whose_tracking_is_lost_has_vanished() -> None:
    profiles = shop()
    lost = [
        *profiles[:-3],
        *(
            replace(day, users=day.platforms["web"].users, platforms={"web": day.platforms["web"]})
            for day in profiles[-3:]
        ),
    ]
    assert [str(change)[:22] for change in find_schema_changes(lost).changes] == ["platform ios: vanished"]


def test_what_returns_after_a_pause_is_not_new() -> None:
    profiles = shop(100)
    early = changed(profiles[:10], 3, with_promotions)
    assert find_schema_changes(changed([*early, *profiles[10:]], 1, with_promotions)).changes == []


def test_announced_days_are_left_out() -> None:
    profiles = changed(shop(), 1, with_promotions)
    assert find_schema_changes(profiles).changes
    assert find_schema_changes(profiles, announced={profiles[-1].day}).changes == []


def test_the_trigger_requests_an_alert_and_names_the_changes() -> None:
    fired = check_schema(find_schema_changes(changed(shop(), 1, without_brand)))
    assert (fired.fired, fired.action, fired.limit) == (True, Action.ALERT, 1)
    assert "brand of view_item on ios" in fired.evidence
    quiet = check_schema(find_schema_changes(shop()))
    assert (quiet.fired, quiet.value) == (False, 0)
    young = check_schema(find_schema_changes(shop(14)))
    assert (young.fired, young.value) == (False, None)
    assert "14 whole days with events, 15 needed" in young.evidence
