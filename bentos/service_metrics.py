"""Metrics of one real-time process in Prometheus' text format; plain numbers, no lock and no file."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

SECONDS = (0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0)
SHARES = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0)

Labels = tuple[str, ...]
Floats = npt.NDArray[np.float64]


class Distribution:
    """A histogram over fixed upper bounds."""

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def add(self, value: float) -> None:
        """Count one value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    def lines(self, name: str, labels: str) -> Iterator[str]:
        """In the text format; buckets are cumulative."""
        so_far = 0
        for bound, count in zip((*map(str, self.bounds), "+Inf"), self.counts, strict=True):
            so_far += count
            yield f'{name}_bucket{{{labels},le="{bound}"}} {so_far}'
        yield f"{name}_sum{{{labels}}} {self.total}"
        yield f"{name}_count{{{labels}}} {so_far}"


@dataclass
class Nulls:
    """How often each feature was null, over so many rows."""

    columns: Sequence[str]
    rows: int = 0
    nulls: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))

    def add(self, rows: Floats) -> None:
        """Count rows of features, shape (rows, columns)."""
        missing = np.isnan(rows).sum(axis=0)
        self.nulls = missing if not self.rows else self.nulls + missing
        self.rows += len(rows)


class ServiceMetrics:
    """All metrics of the process; `gauges` are evaluated when the metrics are read."""

    def __init__(self) -> None:
        self.seconds: defaultdict[Labels, Distribution] = defaultdict(lambda: Distribution(SECONDS))
        self.shares: defaultdict[Labels, Distribution] = defaultdict(lambda: Distribution(SHARES))
        self.predictions: Counter[Labels] = Counter()
        self.problems: Counter[Labels] = Counter()
        self.reloads: Counter[Labels] = Counter()
        self.without_context = 0
        self.nulls: dict[str, Nulls] = {}
        self.gauges: dict[str, tuple[str, Callable[[], float]]] = {}

    def record_request(self, route: str, status: int, seconds: float) -> None:
        """One request of a known route (`other` for the rest), answered."""
        self.seconds[route, str(status)].add(seconds)

    def record_problem(self, kind: str) -> None:
        """One problem document."""
        self.problems[kind,] += 1

    def record_reload(self, outcome: str) -> None:
        """One attempt to change the model."""
        self.reloads[outcome,] += 1

    def record_missing_context(self) -> None:
        """One prediction without the context features that its model needs."""
        self.without_context += 1

    def record_scored(
        self, version: str, policy: str, columns: Sequence[str], rows: Floats, shares: Floats
    ) -> None:
        """Rows that a model scored; `shares` are the probabilities."""
        self.predictions[version, policy] += len(rows)
        distribution = self.shares[(version,)]
        for share in shares.tolist():
            distribution.add(share)
        self.nulls.setdefault(version, Nulls(columns)).add(rows)

    def text(self) -> str:
        """Everything in Prometheus' text format."""
        return "\n".join([*self._lines(), ""])

    def _lines(self) -> Iterator[str]:
        yield from _histogram("retail_request_seconds", "Time to answer", ("route", "status"), self.seconds)
        yield from _histogram("retail_probability", "Probabilities given", ("version",), self.shares)
        yield from _counter(
            "retail_predictions_total", "Predictions made", ("version", "policy"), self.predictions
        )
        yield from _counter("retail_problems_total", "Problems answered", ("kind",), self.problems)
        yield from _counter("retail_reloads_total", "Changes of the model", ("outcome",), self.reloads)
        name, said = "retail_without_context_total", "Questions on whose day nothing was stored of the shop"
        yield from (f"# HELP {name} {said}.", f"# TYPE {name} counter", f"{name} {self.without_context}")
        nulls: dict[Labels, int] = {
            (version, name): int(count)
            for version, one in self.nulls.items()
            for name, count in zip(one.columns, one.nulls.tolist(), strict=True)
        }
        rows: dict[Labels, int] = {(version,): one.rows for version, one in self.nulls.items()}
        yield from _counter("retail_feature_rows_total", "Rows of features scored", ("version",), rows)
        yield from _counter(
            "retail_feature_nulls_total", "Nulls among them, by feature", ("version", "feature"), nulls
        )
        for name, (help_text, read) in self.gauges.items():
            yield from (f"# HELP {name} {help_text}.", f"# TYPE {name} gauge", f"{name} {float(read()):g}")


def _histogram(
    name: str, help_text: str, labels: Labels, series: Mapping[Labels, Distribution]
) -> Iterator[str]:
    yield from (f"# HELP {name} {help_text}.", f"# TYPE {name} histogram")
    for values, distribution in sorted(series.items()):
        yield from distribution.lines(name, _pairs(labels, values))


def _counter(name: str, help_text: str, labels: Labels, series: Mapping[Labels, int]) -> Iterator[str]:
    yield from (f"# HELP {name} {help_text}.", f"# TYPE {name} counter")
    yield from (f"{name}{{{_pairs(labels, values)}}} {count}" for values, count in sorted(series.items()))


def _pairs(names: Iterable[str], values: Iterable[str]) -> str:
    return ",".join(f'{name}="{_escaped(value)}"' for name, value in zip(names, values, strict=True))


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
