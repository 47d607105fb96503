"""From the model that was judged to the model that is served: thresholds carried over by share, not by value.

The two are fitted on different rows, so the same probability does not stand for the same users: carried
over by value, a threshold from the foot of the scale may fall below everybody. What both share is the
order of users. So a buyer is described by the share of rows one has to contact, best first, to reach her,
and the served threshold is the probability at which the served model contacts that share.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from retail_core.arrays import FloatArray, IndexArray
from retail_core.model.thresholds import recall_threshold

MAX_STORED_BUYERS = 2_000
"""Buyers kept with a model: enough for every certificate, and still a small file."""


@dataclass(frozen=True)
class BuyerScores:
    """Buyers on the scale of the served model, one probability a buyer, ascending.

    `held_out`: those of the certification rows, as the evaluation model ranked them among all rows there.
    `cross_fitted`: all there are, each ranked among the rows of her time by a model that saw none of them.
    """

    held_out: FloatArray
    cross_fitted: FloatArray

    def threshold(self, target: float, confidence: float) -> float:
        """What finds `target` of both; 0 where there is no buyer."""
        known = [scores for scores in (self.held_out, self.cross_fitted) if len(scores)]
        return min((recall_threshold(one, target, confidence).threshold for one in known), default=0.0)

    def to_dict(self) -> dict[str, list[float]]:
        """Plain values for JSON."""
        return {"held_out": self.held_out.tolist(), "cross_fitted": self.cross_fitted.tolist()}

    @classmethod
    def from_dict(cls, content: dict[str, list[float]]) -> BuyerScores:
        """Back from `to_dict`; empty where nothing is known."""
        return cls(
            *(np.array(content.get(name, []), dtype=np.float64) for name in ("held_out", "cross_fitted"))
        )


def contact_share_to_reach(score: FloatArray, weights: FloatArray | None = None) -> FloatArray:
    """For each row the share of rows with its score or a higher one, each row counting `weights`."""
    weights = np.ones(len(score)) if weights is None else weights
    order = np.argsort(-score, kind="stable")
    ranked, share = score[order], np.cumsum(weights[order]) / weights.sum()
    last = np.append(ranked[1:] != ranked[:-1], True)
    ends = np.flatnonzero(last)
    tied = ends[np.searchsorted(ends, np.arange(len(ranked)))]
    needed = np.empty(len(score))
    needed[order] = share[tied]
    return needed


def contact_share_within_blocks(score: FloatArray, blocks: IndexArray, weights: FloatArray) -> FloatArray:
    """`needed_share` within each block: scores of different models are not compared."""
    needed = np.empty(len(score))
    for block in np.unique(blocks):
        inside = blocks == block
        needed[inside] = contact_share_to_reach(score[inside], weights[inside])
    return needed


def thresholds_at_contact_share(
    needed: FloatArray, probability: FloatArray, weights: FloatArray
) -> FloatArray:
    """The highest probabilities at which shares of at least `needed` of the rows are contacted; ascending."""
    order = np.argsort(-probability, kind="stable")
    share = np.cumsum(weights[order]) / weights.sum()
    places = np.searchsorted(share, np.minimum(needed, share[-1]) - 1e-12)
    return np.sort(probability[order[np.minimum(places, len(order) - 1)]])
