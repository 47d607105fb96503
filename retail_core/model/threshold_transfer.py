"""Transfer of thresholds from the evaluated model to the served one at equal contact share.

The two models are fitted on different rows, so the same probability does not select the same users: a small
threshold transferred by value may fall below all users. Both models agree on the order of users instead. So a
buyer is described by the share of rows that has to be contacted, highest score first, to reach that buyer,
and the served threshold is the probability at which the served model contacts that share.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from retail_core.arrays import FloatArray, IndexArray
from retail_core.model.thresholds import recall_threshold

MAX_STORED_BUYERS = 2_000
"""Buyers stored with a model: enough for every certificate, and still a small file."""


@dataclass(frozen=True)
class BuyerScores:
    """One probability per buyer on the scale of the served model, ascending.

    Attributes:
        held_out: buyers of the certify period, as the evaluated model ranked them among all its rows.
        cross_fitted: all buyers, each ranked among the rows of its block by a model fitted on other blocks.
    """

    held_out: FloatArray
    cross_fitted: FloatArray

    def threshold(self, target: float, confidence: float) -> float:
        """Threshold that finds the share `target` of both; 0 where there is no buyer."""
        present = [scores for scores in (self.held_out, self.cross_fitted) if len(scores)]
        return min(
            (recall_threshold(scores, target, confidence).threshold for scores in present), default=0.0
        )

    def to_dict(self) -> dict[str, list[float]]:
        """Plain values for JSON."""
        return {"held_out": self.held_out.tolist(), "cross_fitted": self.cross_fitted.tolist()}

    @classmethod
    def from_dict(cls, content: dict[str, list[float]]) -> BuyerScores:
        """Inverse of `to_dict`; missing lists are empty."""
        names = ("held_out", "cross_fitted")
        return cls(*(np.array(content.get(name, []), dtype=np.float64) for name in names))


def contact_share_to_reach(score: FloatArray, weights: FloatArray | None = None) -> FloatArray:
    """For each row the share of rows with its score or a higher one.

    Args:
        score: of each row.
        weights: how many rows of the population each stands for; None for one.
    """
    weights = np.ones(len(score)) if weights is None else weights
    order = np.argsort(-score, kind="stable")
    ranked, share = score[order], np.cumsum(weights[order]) / weights.sum()
    is_tie_end = np.append(ranked[1:] != ranked[:-1], True)
    tie_ends = np.flatnonzero(is_tie_end)
    tie_end_of_rank = tie_ends[np.searchsorted(tie_ends, np.arange(len(ranked)))]
    shares = np.empty(len(score))
    shares[order] = share[tie_end_of_rank]
    return shares


def contact_share_within_blocks(score: FloatArray, blocks: IndexArray, weights: FloatArray) -> FloatArray:
    """`contact_share_to_reach` within each block, because each block was scored by another model."""
    shares = np.empty(len(score))
    for block in np.unique(blocks):
        inside = blocks == block
        shares[inside] = contact_share_to_reach(score[inside], weights[inside])
    return shares


def thresholds_at_contact_share(
    shares: FloatArray, probability: FloatArray, weights: FloatArray
) -> FloatArray:
    """The highest probabilities at which at least the given shares of the rows are contacted, ascending.

    Args:
        shares: contact shares, of any number of buyers.
        probability: by the served model, of all rows.
        weights: how many rows of the population each row stands for.
    """
    order = np.argsort(-probability, kind="stable")
    cumulative = np.cumsum(weights[order]) / weights.sum()
    ranks = np.searchsorted(cumulative, np.minimum(shares, cumulative[-1]) - 1e-12)
    return np.sort(probability[order[np.minimum(ranks, len(order) - 1)]])
