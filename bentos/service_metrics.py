"""Metrics of one real-time process, exposed by `prometheus_client` from a registry of their own.

The values are plain numbers that a collector turns into metric families when they are read. The library's own
counters are not used: BentoML sets PROMETHEUS_MULTIPROC_DIR, which makes them write to BentoML's files, where
they would be summed over processes and exposed twice. One real-time process serves at a time, so its own
numbers are complete. All label values come from closed sets: known routes, statuses, problem kinds, names of
API keys, policies, model versions and their features.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate

import numpy as np
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from retail_core.arrays import FloatArray, IntArray

SECONDS_BUCKETS = (
    *(0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.02),
    *(0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0),
)
PROBABILITY_BUCKETS = (
    *(0.001, 0.0025, 0.005, 0.01, 0.02, 0.03, 0.05),
    *(0.075, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0),
)

LabelValues = tuple[str, ...]


class BucketCounts:
    """Counts of a histogram with fixed upper bounds."""

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        """Count one value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    def cumulative(self) -> list[tuple[str, float]]:
        """(upper bound, number of values up to it), as `prometheus_client` takes them."""
        labels = [*map(str, self.bounds), "+Inf"]
        return list(zip(labels, map(float, accumulate(self.counts)), strict=True))


@dataclass
class NullCounts:
    """How often each feature was null in `rows` rows."""

    columns: Sequence[str]
    rows: int = 0
    nulls: IntArray = field(default_factory=lambda: np.zeros(0, np.int64))

    def add(self, features: FloatArray) -> None:
        """Count an array of features, shape (rows, columns)."""
        nulls = np.isnan(features).sum(axis=0)
        self.nulls = nulls if not self.rows else self.nulls + nulls
        self.rows += len(features)


class ServiceMetrics(Collector):
    """Counts requests, predictions, problems and reloads; gauges are evaluated when they are read."""

    def __init__(self) -> None:
        self._request_seconds: defaultdict[LabelValues, BucketCounts] = defaultdict(
            lambda: BucketCounts(SECONDS_BUCKETS)
        )
        self._probabilities: defaultdict[LabelValues, BucketCounts] = defaultdict(
            lambda: BucketCounts(PROBABILITY_BUCKETS)
        )
        self._predictions: Counter[LabelValues] = Counter()
        self._problems: Counter[LabelValues] = Counter()
        self._reloads: Counter[LabelValues] = Counter()
        self._by_key: Counter[LabelValues] = Counter()
        self._without_context = 0
        self._nulls: dict[str, NullCounts] = {}
        self._series: dict[str, tuple[str, str, Callable[[], Mapping[LabelValues, float]]]] = {}

    def record_request(self, route: str, status: int, seconds: float) -> None:
        """One answered request; `route` is a known route or `other`."""
        self._request_seconds[route, str(status)].observe(seconds)

    def record_key(self, name: str) -> None:
        """One answered request of the API key of this name."""
        self._by_key[name,] += 1

    def record_problem(self, kind: str) -> None:
        """One problem document."""
        self._problems[kind,] += 1

    def record_reload(self, outcome: str) -> None:
        """One attempt to change the model: `taken` or `refused`."""
        self._reloads[outcome,] += 1

    def record_missing_context(self) -> None:
        """One prediction without the context features that its model needs."""
        self._without_context += 1

    def record_scored(
        self,
        version: str,
        policy: str,
        columns: Sequence[str],
        features: FloatArray,
        probabilities: FloatArray,
    ) -> None:
        """Rows scored by a model: features of shape (rows, columns) and their probabilities."""
        self._predictions[version, policy] += len(features)
        buckets = self._probabilities[(version,)]
        for probability in probabilities.tolist():
            buckets.observe(probability)
        self._nulls.setdefault(version, NullCounts(columns)).add(features)

    def register_gauge(self, name: str, help_text: str, read: Callable[[], float]) -> None:
        """Expose what `read` returns under `name`."""
        self.register_series(name, help_text, "", lambda: {(): float(read())})

    def register_series(
        self, name: str, help_text: str, labels: str, read: Callable[[], Mapping[LabelValues, float]]
    ) -> None:
        """Expose a gauge with `labels` (names, separated by spaces); `read` returns its values by label."""
        self._series[name] = (help_text, labels, read)

    def families(self) -> list[Metric]:
        """The metric families with the values of this moment; call it in the event loop of the requests."""
        return list(self.collect())

    def collect(self) -> Iterator[Metric]:
        """The metric families with the values of this moment."""
        yield _histogram("retail_request_seconds", "Time to answer", "route status", self._request_seconds)
        yield _histogram("retail_probability", "Probabilities given", "version", self._probabilities)
        yield _counter("retail_key_requests", "Requests answered, by API key", "key", self._by_key)
        yield _counter("retail_predictions", "Predictions made", "version policy", self._predictions)
        yield _counter("retail_problems", "Problems answered", "kind", self._problems)
        yield _counter("retail_reloads", "Changes of the model", "outcome", self._reloads)
        yield CounterMetricFamily(
            "retail_without_context",
            "Questions on whose day nothing was stored of the shop",
            self._without_context,
        )
        rows: dict[LabelValues, int] = {(version,): counts.rows for version, counts in self._nulls.items()}
        yield _counter("retail_feature_rows", "Rows of features scored", "version", rows)
        nulls: dict[LabelValues, int] = {
            (version, column): int(count)
            for version, counts in self._nulls.items()
            for column, count in zip(counts.columns, counts.nulls.tolist(), strict=True)
        }
        yield _counter("retail_feature_nulls", "Nulls among them, by feature", "version feature", nulls)
        for name, (help_text, labels, read) in self._series.items():
            family = GaugeMetricFamily(name, help_text, labels=labels.split())
            for label_values, value in sorted(read().items()):
                family.add_metric(label_values, value)
            yield family


def _counter(
    name: str, help_text: str, labels: str, values: Mapping[LabelValues, int]
) -> CounterMetricFamily:
    family = CounterMetricFamily(name, help_text, labels=labels.split())
    for label_values, value in sorted(values.items()):
        family.add_metric(label_values, value)
    return family


def _histogram(
    name: str, help_text: str, labels: str, series: Mapping[LabelValues, BucketCounts]
) -> HistogramMetricFamily:
    family = HistogramMetricFamily(name, help_text, labels=labels.split())
    for label_values, buckets in sorted(series.items()):
        family.add_metric(label_values, buckets.cumulative(), buckets.total)
    return family
