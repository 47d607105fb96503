"""Intervals of the effect hold their level, also with few buyers in the control group."""

from __future__ import annotations

import math

import numpy as np
import pytest

from retail_core.campaigns.detectable_effect import detectable_increase, needed_users
from retail_core.campaigns.effect import Effect, Group, estimate_effect

CAMPAIGNS = 400


def effects(base: float, increase: float, users: int, control_share: float) -> list[Effect]:
    """Effects of simulated campaigns whose users buy more often in the first strata than in the last."""
    generator = np.random.default_rng(7)
    weights = np.linspace(2, 0.2, 10) / 1.1
    control = np.full(10, round(users * control_share / 10))
    contacted = users // 10 - control

    def group(sizes: np.ndarray, shares: np.ndarray) -> Group:
        buyers = int(generator.binomial(sizes, np.clip(shares, 0, 1)).sum())
        amounts = generator.lognormal(3, 0.8, buyers)
        return Group(int(sizes.sum()), buyers, float(amounts.sum()), float((amounts**2).sum()))

    return [
        estimate_effect(group(contacted, (base + increase) * weights), group(control, base * weights))
        for _ in range(CAMPAIGNS)
    ]


@pytest.mark.parametrize(
    ("base", "increase", "users", "control_share"),
    [(0.05, 0.0, 2_000, 0.1), (0.03, 0.03, 1_000, 0.2), (0.01, 0.005, 20_000, 0.2), (0.2, 0.05, 500, 0.5)],
)
def test_intervals_cover_the_true_effect(
    base: float, increase: float, users: int, control_share: float
) -> None:
    found = effects(base, increase, users, control_share)
    mean_amount = math.exp(3 + 0.32)
    share = [e.share.interval[0] <= increase <= e.share.interval[1] for e in found]
    revenue = [e.revenue.interval[0] <= increase * mean_amount <= e.revenue.interval[1] for e in found]
    ratio = [
        e.relative is None or e.relative.interval[0] <= increase / base <= e.relative.interval[1]
        for e in found
    ]
    assert min(np.mean(share), np.mean(revenue), np.mean(ratio)) >= 0.92


def test_no_effect_is_rarely_reported_as_one_and_a_large_one_mostly() -> None:
    assert np.mean([not e.share.includes_zero for e in effects(0.03, 0.0, 1_000, 0.2)]) <= 0.075
    assert np.mean([not e.share.includes_zero for e in effects(0.05, 0.05, 4_000, 0.3)]) >= 0.9


def test_a_control_group_without_buyers_has_no_ratio() -> None:
    effect = estimate_effect(Group(100, 3, 30.0, 400.0), Group(20, 0, 0.0, 0.0))
    assert effect.relative is None
    assert effect.share.includes_zero
    assert effect.revenue.interval[0] < 0 < effect.revenue.interval[1]


@pytest.mark.parametrize(("contacted", "control"), [(1_600, 400), (8_000, 2_000)])
def test_the_detectable_increase_is_shown_in_four_of_five_campaigns(contacted: int, control: int) -> None:
    increase = detectable_increase(0.05, contacted, control)
    assert increase is not None
    found = effects(0.05, increase, contacted + control, control / (contacted + control))
    assert 0.7 <= np.mean([not e.share.includes_zero for e in found]) <= 0.9


def test_the_needed_number_of_users_has_that_detectable_increase() -> None:
    users = needed_users(0.05, 0.01, 0.2)
    assert users is not None
    assert detectable_increase(0.05, round(users * 0.8), round(users * 0.2)) == pytest.approx(0.01, rel=0.01)
    assert needed_users(0.05, 0.0, 0.2) is None
    assert needed_users(0.05, 0.01, 0.0) is None
