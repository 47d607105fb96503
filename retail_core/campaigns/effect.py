"""Effect of contacting: contacted users against a random control group, by intention to treat.

Everybody counts in the group that was assigned, contacted or not. The groups are assigned at random within
strata of similar probability, with the same share held out in each, so they are compared as a whole; that the
strata make them more alike than chance would is not used, so intervals are a little wide.

Shares are compared by Newcombe's hybrid score interval ("Interval estimation for the difference between
independent proportions", 1998, method 10), ratios by that of Katz et al. (1978). Both keep their level where
the control group has few buyers; so does the interval of the revenue, whose variance takes the amounts of the
buyers of both groups together and the shares of Agresti and Coull (1998).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

Interval = tuple[float, float]

_NORMAL_QUANTILE = 1.959964


@dataclass(frozen=True)
class Group:
    """One group.

    Attributes:
        users: number of users, at least one.
        buyers: how many of them bought.
        revenue: sum of what they paid.
        revenue_squares: sum of the squares of what each buyer paid.
    """

    users: int
    buyers: int
    revenue: float
    revenue_squares: float

    @property
    def share(self) -> float:
        """Share of buyers."""
        return self.buyers / self.users


@dataclass(frozen=True)
class Estimate:
    """A figure with its 95 % interval."""

    value: float
    interval: Interval

    @property
    def includes_zero(self) -> bool:
        """Whether it cannot be told from no effect."""
        return self.interval[0] <= 0 <= self.interval[1]

    def times(self, factor: float) -> Estimate:
        """The figure in another unit; `factor` is positive."""
        return Estimate(self.value * factor, (self.interval[0] * factor, self.interval[1] * factor))


@dataclass(frozen=True)
class Effect:
    """What contacting changed.

    Attributes:
        share: share of buyers, contacted less control.
        relative: the same relative to the control group's share; None without buyers in it.
        revenue: revenue per user, contacted less control.
    """

    share: Estimate
    relative: Estimate | None
    revenue: Estimate


def estimate_effect(contacted: Group, control: Group) -> Effect:
    """The effect with intervals of 95 %.

    Examples:
        >>> effect = estimate_effect(Group(900, 90, 1800.0, 40_000.0), Group(100, 5, 100.0, 2_200.0))
        >>> round(effect.share.value, 3), effect.share.includes_zero
        (0.05, True)
    """
    return Effect(
        _difference_of_shares(contacted, control),
        _ratio_of_shares(contacted, control),
        _difference_of_revenue(contacted, control),
    )


def _difference_of_shares(contacted: Group, control: Group) -> Estimate:
    (low, high), (control_low, control_high) = _wilson(contacted), _wilson(control)
    value = contacted.share - control.share
    below = math.hypot(contacted.share - low, control_high - control.share)
    above = math.hypot(high - contacted.share, control.share - control_low)
    return Estimate(value, (value - below, value + above))


def _wilson(group: Group) -> Interval:
    """Score interval of a share."""
    square = _NORMAL_QUANTILE**2
    scale = 1 + square / group.users
    center = (group.share + square / (2 * group.users)) / scale
    variance = group.share * (1 - group.share) / group.users + square / (4 * group.users**2)
    half = _NORMAL_QUANTILE * math.sqrt(variance) / scale
    return center - half, center + half


def _ratio_of_shares(contacted: Group, control: Group) -> Estimate | None:
    """Ratio of the shares less 1; half a buyer is added to each group for the interval."""
    if not control.buyers:
        return None
    shares = [(group.buyers + 0.5) / (group.users + 0.5) for group in (contacted, control)]
    variance = sum(1 / (group.buyers + 0.5) - 1 / (group.users + 0.5) for group in (contacted, control))
    half = _NORMAL_QUANTILE * math.sqrt(variance)
    ratio = shares[0] / shares[1]
    return Estimate(
        contacted.share / control.share - 1, (ratio * math.exp(-half) - 1, ratio * math.exp(half) - 1)
    )


def _difference_of_revenue(contacted: Group, control: Group) -> Estimate:
    groups = (contacted, control)
    buyers = max(1, contacted.buyers + control.buyers)
    mean = (contacted.revenue + control.revenue) / buyers
    amounts = max(0.0, (contacted.revenue_squares + control.revenue_squares) / buyers - mean**2)
    shares = [(group.buyers + 2) / (group.users + 4) for group in groups]
    variance = sum(
        (share * (1 - share) * mean**2 + share * amounts) / group.users
        for share, group in zip(shares, groups, strict=True)
    )
    value = contacted.revenue / contacted.users - control.revenue / control.users
    half = _NORMAL_QUANTILE * math.sqrt(variance)
    return Estimate(value, (value - half, value + half))
