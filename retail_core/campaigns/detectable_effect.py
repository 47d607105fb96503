"""Which effect a campaign can show before it is sent, and how many users a wanted effect needs.

Two shares of buyers, compared at a two-sided level of 5 % with a power of 80 %, normal approximation with
unequal groups (Fleiss, Levin & Paik, "Statistical Methods for Rates and Proportions", 2003, chapter 4).
"""

from __future__ import annotations

import math

from scipy.optimize import brentq
from scipy.stats import norm

LEVEL, POWER = 0.05, 0.8


def detectable_increase(base_share: float, contacted: int, control: int) -> float | None:
    """Smallest increase of the share of buyers that is shown with a probability of 80 %.

    Args:
        base_share: share of buyers without contact, in (0, 1).
        contacted: number of users to contact.
        control: number of users held out.

    Returns:
        The increase, as a share of users; None where not even all contacted users buying would be shown.

    Examples:
        >>> round(detectable_increase(0.05, 9_000, 1_000), 4)
        0.023
        >>> detectable_increase(0.05, 9_000, 0) is None
        True
    """
    if not (contacted and control and 0 < base_share < 1):
        return None

    def shortfall(increase: float) -> float:
        return increase - _shown_difference(base_share, base_share + increase, contacted, control)

    largest = 1 - base_share
    if shortfall(largest * (1 - 1e-9)) < 0:
        return None
    return float(brentq(shortfall, 1e-12, largest * (1 - 1e-9)))


def needed_users(base_share: float, increase: float, control_share: float) -> int | None:
    """Number of users, control group included, with which an increase is shown with a probability of 80 %.

    Args:
        base_share: share of buyers without contact, in (0, 1).
        increase: of that share, above 0.
        control_share: share of the users that is held out, in (0, 1).

    Returns:
        The number; None where the shares are not within their ranges.

    Examples:
        >>> needed_users(0.05, 0.01, 0.1)
        46506
        >>> needed_users(0.05, 0.01, 0.5)
        16316
    """
    if not (0 < base_share < base_share + increase < 1 and increase > 0 and 0 < control_share < 1):
        return None

    def shortfall(users: float) -> float:
        control = users * control_share
        return increase - _shown_difference(base_share, base_share + increase, users - control, control)

    highest = 1e3
    while shortfall(highest) < 0:
        highest *= 10
    return math.ceil(brentq(shortfall, 1.0, highest)) if shortfall(1.0) < 0 else 1


def _shown_difference(control_share: float, share: float, contacted: float, control: float) -> float:
    """Difference that is shown with `POWER`, if the shares are these."""
    pooled = (share * contacted + control_share * control) / (contacted + control)
    level, power = float(norm.ppf(1 - LEVEL / 2)), float(norm.ppf(POWER))
    without = math.sqrt(pooled * (1 - pooled) * (1 / contacted + 1 / control))
    with_effect = math.sqrt(share * (1 - share) / contacted + control_share * (1 - control_share) / control)
    return level * without + power * with_effect
