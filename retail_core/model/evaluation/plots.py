"""Plots logged with a model; the caption of each states population, period and base rate."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from retail_core.arrays import BoolArray, FloatArray
from retail_core.model.calibration import reliability
from retail_core.model.evaluation.metrics import ScoredRows

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BLUE, GREY, ORANGE = "#1f5a94", "#8a8a8a", "#d9772b"
_INCHES, _DPI = (7.2, 5.0), 110


def draw_all(
    rows: ScoredRows,
    *,
    caption: str,
    thresholds: dict[str, float],
    importances: Sequence[tuple[str, float]],
    folder: Path,
) -> list[Path]:
    """Write every plot to `folder` as PNG.

    Args:
        rows: scored rows of the test period.
        caption: population, period and base rate, printed above each plot.
        thresholds: `f1` and `contact`, as probabilities.
        importances: (feature, importance), largest first; the first 20 are drawn.
        folder: an existing folder.
    """
    plots = {
        "precision_recall": precision_recall(rows, thresholds, caption),
        "calibration": calibration(rows, caption),
        "gains": gains(rows, thresholds["contact"], caption),
        "confusion": confusion(rows, thresholds["f1"], caption),
        "importance": importance(importances, caption),
    }
    paths = []
    for name, figure in plots.items():
        path = folder / f"{name}.png"
        figure.savefig(path, dpi=_DPI)
        paths.append(path)
    return paths


def precision_recall(rows: ScoredRows, thresholds: dict[str, float], caption: str) -> Figure:
    """Precision against recall, with the base rate as chance level and the operating points."""
    from sklearn.metrics import average_precision_score, precision_recall_curve

    figure, axes = _canvas("Precision and recall", caption)
    precision, recall, _ = precision_recall_curve(rows.labels, rows.raw)
    ap = average_precision_score(rows.labels, rows.raw)
    axes.plot(recall[:-1], precision[:-1], color=BLUE, drawstyle="steps-post", label=f"model, AP {ap:.3f}")
    base = rows.labels.mean()
    axes.axhline(base, color=GREY, linestyle="--", label=f"chance, {base:.3f}")
    for (name, threshold), marker in zip(thresholds.items(), "oD", strict=False):
        point = _point(rows.probability >= threshold, rows.labels)
        axes.plot(*point, marker, color=ORANGE, markersize=8, label=f"{_POINTS[name]} (p ≥ {threshold:.3f})")
    top = float(np.quantile(precision[recall >= 0.01], 0.995)) if (recall >= 0.01).any() else 1.0
    axes.set(xlabel="recall: share of buyers selected", ylabel="precision: share of selected who buy")
    axes.set(xlim=(0, 1), ylim=(0, min(1.02, top * 1.15)))
    axes.legend(frameon=False)
    return figure


_POINTS = {"f1": "best F1", "contact": "contact"}


def calibration(rows: ScoredRows, caption: str) -> Figure:
    """Share of buyers against mean probability in ten bins of equally many rows, 95 % Wilson intervals."""
    figure, axes = _canvas("Calibration", caption)
    table = reliability(rows.probability, rows.labels)
    predicted = np.array([bin_["probability"] for bin_ in table])
    bought = np.array([bin_["bought"] for bin_ in table])
    low, high = _wilson(bought, np.array([bin_["rows"] for bin_ in table]))
    edge = max(predicted.max(), high.max()) * 1.6
    floor = max(min(predicted.min(), bought[bought > 0].min() if (bought > 0).any() else 1e-3) / 2, 1e-5)
    axes.plot([floor, edge], [floor, edge], color=GREY, linestyle="--", label="perfect")
    heights = np.maximum([bought - low, high - bought], 0)
    axes.errorbar(
        predicted, bought, yerr=heights, fmt="o-", color=BLUE, capsize=3, label="deciles of the rows"
    )
    axes.set(xscale="log", yscale="log", xlim=(floor, edge), ylim=(floor, edge))
    axes.set(xlabel="mean predicted probability (log scale)", ylabel="share that bought (log scale)")
    axes.legend(frameon=False, loc="upper left")
    return figure


def gains(rows: ScoredRows, contact: float, caption: str) -> Figure:
    """Share of buyers reached against share of users contacted, highest score first."""
    figure, axes = _canvas("Cumulative gains", caption)
    order = np.argsort(-rows.raw, kind="stable")
    reached = np.cumsum(rows.labels[order]) / max(1, rows.labels.sum())
    contacted = np.arange(1, len(reached) + 1) / len(reached)
    perfect = np.minimum(contacted / max(rows.labels.mean(), 1e-12), 1)
    axes.plot(contacted, perfect, color=GREY, linewidth=1, label="perfect ranking")
    axes.plot(contacted, reached, color=BLUE, label="model")
    axes.plot([0, 1], [0, 1], color=GREY, linestyle="--", label="chance")
    selected = rows.probability >= contact
    share, recall = float(selected.mean()), _point(selected, rows.labels)[0]
    label = f"contact: {share:.0%} of rows, {recall:.0%} of buyers"
    axes.plot(share, recall, "D", color=ORANGE, markersize=8, label=label)
    axes.set(xlabel="share of eligible users contacted", ylabel="share of buyers reached")
    axes.set(xlim=(0, 1), ylim=(0, 1.02))
    axes.legend(frameon=False, loc="lower right")
    return figure


def confusion(rows: ScoredRows, threshold: float, caption: str) -> Figure:
    """Confusion matrix at the best-F1 threshold, with shares by true class."""
    figure, axes = _canvas(f"will_purchase (p ≥ {threshold:.3f})", caption)
    selected = rows.probability >= threshold
    counts = np.array([[(rows.labels == t) & (selected == c) for c in (True, False)] for t in (True, False)])
    counts = counts.sum(axis=2)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    for row, column in np.ndindex(2, 2):
        color = "white" if shares[row, column] > 0.55 else "black"
        text = f"{counts[row, column]:,}\n{shares[row, column]:.1%} of the row"
        axes.text(column, row, text, ha="center", va="center", color=color, fontsize=13)
    axes.set_xticks([0, 1], ["predicted to buy", "predicted not to"])
    axes.set_yticks([0, 1], ["bought", "did not buy"])
    axes.grid(visible=False)
    return figure


def importance(importances: Sequence[tuple[str, float]], caption: str) -> Figure:
    """The twenty most important features by mean absolute Shapley value."""
    top = list(importances)[:20][::-1]
    figure, axes = _canvas("Feature importance", caption)
    axes.barh([name for name, _ in top], [value for _, value in top], color=BLUE)
    axes.set(xlabel="share of the mean absolute Shapley values")
    axes.tick_params(axis="y", labelsize=8)
    axes.grid(visible=False, axis="y")
    return figure


def _canvas(title: str, caption: str) -> tuple[Figure, Axes]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=_INCHES, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    figure.suptitle(title, fontsize=13, fontweight="bold")
    axes.set_title(caption, fontsize=8.5, color="#444444", wrap=True)
    axes.grid(visible=True, color="#e6e6e6", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _point(selected: BoolArray, labels: BoolArray) -> tuple[float, float]:
    hits = (selected & labels).sum()
    return float(hits / max(1, labels.sum())), float(hits / max(1, selected.sum()))


def _wilson(share: FloatArray, rows: FloatArray) -> tuple[FloatArray, FloatArray]:
    z = 1.96
    centre = (share + z * z / (2 * rows)) / (1 + z * z / rows)
    half = z * np.sqrt(share * (1 - share) / rows + z * z / (4 * rows**2)) / (1 + z * z / rows)
    return centre - half, centre + half
