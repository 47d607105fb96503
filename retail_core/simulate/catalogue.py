"""The catalogue: categories, brands, items with prices, and how a user picks an item."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from retail_core.arrays import FloatArray, IntArray

CURRENCY = "EUR"

# name, share of interest, median price, items, chance that a line has more than one piece
_CATEGORIES: tuple[tuple[str, float, float, int, float], ...] = (
    ("fashion.women", 0.20, 29.0, 700, 0.04),
    ("fashion.men", 0.11, 32.0, 450, 0.05),
    ("shoes", 0.10, 58.0, 350, 0.01),
    ("beauty", 0.11, 14.0, 400, 0.14),
    ("home.kitchen", 0.10, 24.0, 450, 0.12),
    ("home.decor", 0.08, 19.0, 400, 0.20),
    ("electronics.mobile", 0.09, 165.0, 200, 0.01),
    ("electronics.audio", 0.06, 75.0, 200, 0.02),
    ("toys", 0.06, 21.0, 300, 0.10),
    ("sport", 0.04, 38.0, 250, 0.05),
    ("garden", 0.03, 27.0, 200, 0.15),
    ("pets", 0.02, 16.0, 100, 0.30),
)
TRENDING = np.array([9, 10, 11])
"""The small categories that the drift `mix` moves interest to."""


@dataclass(frozen=True)
class Catalogue:
    """Items by index; those of a category are contiguous and sorted by falling popularity."""

    category: IntArray
    brand: IntArray
    price_minor: IntArray
    price_rank: FloatArray
    discount: FloatArray
    first: IntArray
    size: IntArray
    share: FloatArray
    pack: FloatArray
    category_names: tuple[str, ...]
    brand_names: tuple[str, ...]

    @property
    def items(self) -> int:
        """How many items there are."""
        return len(self.category)

    def price_on(self, *, promotion: bool) -> IntArray:
        """Price of every item in hundredths; about a third is cheaper on promotion days."""
        if not promotion:
            return self.price_minor
        return np.round(self.price_minor * (1 - self.discount)).astype(np.int64)

    def pick(self, rng: np.random.Generator, category: IntArray, level: FloatArray) -> IntArray:
        """One item for each (category, price level in 0..1): popular ones, near that price level."""
        candidates = []
        for _ in range(2):
            place = rng.random(len(category)) ** 2.6 * self.size[category]
            candidates.append(self.first[category] + place.astype(np.int64))
        first, second = candidates
        first_is_nearer = np.abs(self.price_rank[first] - level) <= np.abs(self.price_rank[second] - level)
        return np.where(first_is_nearer, first, second)

    def quantities(self, rng: np.random.Generator, item: IntArray) -> IntArray:
        """Pieces in a line of each item: mostly one, now and then many."""
        several = rng.random(len(item)) < self.pack[self.category[item]]
        return np.where(several, 1 + np.minimum(rng.geometric(0.45, len(item)), 24), 1)


def draw_catalogue(rng: np.random.Generator) -> Catalogue:
    """The shop's items; the same for every population of one seed."""
    size = np.array([row[3] for row in _CATEGORIES])
    first = np.concatenate([[0], np.cumsum(size)[:-1]])
    category = np.repeat(np.arange(len(size)), size)
    noise = rng.normal(0, 0.65, len(category))
    median = np.array([row[2] for row in _CATEGORIES])[category]
    price = np.maximum(np.round(median * np.exp(noise)) - rng.choice([0.01, 0.05, 0.5], len(category)), 0.49)
    rank = np.empty(len(category))
    for start, count in zip(first, size, strict=True):
        block = slice(int(start), int(start + count))
        rank[block] = np.argsort(np.argsort(noise[block])) / count
    per_category = 12
    brand = category * per_category + (per_category * rng.random(len(category)) ** 1.8).astype(np.int64)
    return Catalogue(
        category=category,
        brand=brand,
        price_minor=np.round(price * 100).astype(np.int64),
        price_rank=rank,
        discount=np.where(rng.random(len(category)) < 0.35, rng.uniform(0.1, 0.4, len(category)), 0.0),
        first=first,
        size=size,
        share=np.array([row[1] for row in _CATEGORIES]),
        pack=np.array([row[4] for row in _CATEGORIES]),
        category_names=tuple(row[0] for row in _CATEGORIES),
        brand_names=tuple(f"brand-{number:03d}" for number in range(len(size) * per_category)),
    )
