"""Downsampling of the rows to fit on, and the exact prior correction for it (King & Zeng 2001).

With positives sampled at rate a and negatives at rate b, a score s fitted on the sample becomes the
probability k*s / (k*s + 1 - s) with k = b / a (Bayes' rule; a = 1 where all positives fit into the limit).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from retail_core.arrays import BoolArray, FloatArray

NEGATIVES_PER_POSITIVE = 5
MIN_SAMPLE_ROWS = 20_000
"""Samples are not made smaller than this, because fewer rows save no time."""


@dataclass(frozen=True)
class Sampling:
    """Rates at which positives and negatives are sampled."""

    positive_rate: float
    negative_rate: float

    @property
    def factor(self) -> float:
        """The k of the prior correction: negative rate over positive rate."""
        return self.negative_rate / self.positive_rate

    def select(self, rows: pd.DataFrame, seed: int) -> BoolArray:
        """Mask of the sampled rows (`user_id`, `as_of`, `label`).

        A row is selected by a hash of its user and cut-off, so that samples of different sizes are nested
        and the selection of a row does not depend on the other rows.
        """
        fraction = row_hash_fraction(rows, seed)
        rate = np.where(rows["label"].to_numpy(bool), self.positive_rate, self.negative_rate)
        return np.asarray(fraction < rate, dtype=np.bool_)

    def weights(self, labels: BoolArray) -> FloatArray:
        """How many rows of the population each sampled row stands for."""
        return np.where(labels, 1 / self.positive_rate, 1 / self.negative_rate)


def plan_sampling(labels: BoolArray, limit: int) -> Sampling:
    """Rates that sample about `limit` rows: all positives where they fit into half of it, then negatives."""
    positives = int(labels.sum())
    negatives = len(labels) - positives
    sampled_positives = min(positives, limit // 2)
    target_negatives = max(NEGATIVES_PER_POSITIVE * sampled_positives, MIN_SAMPLE_ROWS - sampled_positives)
    sampled_negatives = min(negatives, target_negatives, limit - sampled_positives)
    return Sampling(
        sampled_positives / max(positives, 1) or 1.0, sampled_negatives / max(negatives, 1) or 1.0
    )


def correct_prior(score: FloatArray, factor: float) -> FloatArray:
    """Probability in the population for a score fitted on a sample; `factor` is k of the module's text."""
    scaled = factor * score
    return scaled / (scaled + 1.0 - score)


def row_hash_fraction(rows: pd.DataFrame, seed: int) -> FloatArray:
    """A number in [0, 1) per (user, cut-off), the same on every machine."""
    key = f"rows{seed}".ljust(16, "0")[:16]
    hashed = pd.util.hash_array(rows["user_id"].to_numpy(object), hash_key=key)
    instants = rows["as_of"].astype("int64").to_numpy().astype(np.uint64)
    with np.errstate(over="ignore"):
        mixed = (hashed ^ (instants * np.uint64(0x9E3779B97F4A7C15))) * np.uint64(0xBF58476D1CE4E5B9)
        mixed ^= mixed >> np.uint64(31)
        mixed *= np.uint64(0x94D049BB133111EB)
        mixed ^= mixed >> np.uint64(29)
    return (mixed >> np.uint64(11)).astype(np.float64) / float(1 << 53)
