"""Charts of the app, all in one style."""

from __future__ import annotations

import altair as alt
import numpy as np
import pandas as pd

ACCENT = "#2f6f5e"
MUTED = "#b9b3a4"
WARN = "#b4532a"
INK = "#5b5f66"
HEIGHT = 260
BINS = 40

Chart = alt.LayerChart | alt.Chart


def probability_histogram(probability: pd.Series[float], threshold: float | None) -> Chart:
    """Histogram of predicted probabilities; bars at or above the threshold are highlighted."""
    top = max(float(probability.max()), 0.01)
    edges = np.linspace(0, top, BINS + 1)
    if threshold is not None and 0 < threshold < top:
        edges = np.unique([*edges, threshold])
    counts, edges = np.histogram(probability, bins=edges)
    frame = pd.DataFrame({"from": edges[:-1], "to": edges[1:], "users": counts})
    selected = edges[:-1] >= (threshold if threshold is not None else 2.0)
    frame["group"] = np.where(selected, "chosen", "not chosen")
    frame = frame[frame["users"] > 0]
    bars = (
        alt.Chart(frame)
        .mark_bar(binSpacing=0.5)
        .encode(
            x=alt.X(
                "from:Q", bin="binned", title="Predicted probability of buying", axis=alt.Axis(format="%")
            ),
            x2="to:Q",
            y=alt.Y("users:Q", title="Users", scale=alt.Scale(type="sqrt"), axis=alt.Axis(tickCount=5)),
            color=alt.Color(
                "group:N",
                scale=alt.Scale(domain=["chosen", "not chosen"], range=[ACCENT, MUTED]),
                legend=alt.Legend(title=None, orient="top", symbolType="square"),
            ),
            tooltip=[
                alt.Tooltip("from:Q", format=".1%", title="From"),
                alt.Tooltip("to:Q", format=".1%", title="To"),
                alt.Tooltip("users:Q", format=",", title="Users"),
            ],
        )
    )
    return _styled(bars)


def gain_curve(probability: pd.Series[float], contacted: int) -> Chart:
    """Share of the expected buyers reached by contacting users from the top of the list down."""
    ordered = np.sort(probability.to_numpy())[::-1]
    reached = np.concatenate([[0.0], np.cumsum(ordered)]) / max(float(ordered.sum()), 1e-12)
    steps = np.unique(np.linspace(0, len(ordered), 201).astype(int))
    frame = pd.DataFrame({"users": steps, "reached": reached[steps]})
    line = (
        alt.Chart(frame)
        .mark_area(line={"color": ACCENT}, color=ACCENT, opacity=0.12)
        .encode(
            x=alt.X("users:Q", title="Users contacted, most likely first", axis=alt.Axis(format=",d")),
            y=alt.Y("reached:Q", title="Expected buyers reached", axis=alt.Axis(format="%", tickCount=5)),
            tooltip=[alt.Tooltip("users:Q", format=","), alt.Tooltip("reached:Q", format=".1%")],
        )
    )
    selected = pd.DataFrame({"users": [contacted], "reached": [float(reached[contacted])]})
    rule = alt.Chart(selected).mark_rule(color=WARN, strokeDash=[4, 3]).encode(x="users:Q")
    dot = alt.Chart(selected).mark_point(color=WARN, filled=True, size=70, opacity=1)
    return _styled(line + rule + dot.encode(x="users:Q", y="reached:Q"))


def against_reference(days: pd.DataFrame, reference: float | None, title: str) -> Chart:
    """A live metric by day (`day`, `value`, `n`, `buyers`) with the model's reference as a line."""
    base = alt.Chart(days).encode(
        x=alt.X("day:T", title=None, axis=alt.Axis(format="%d %b", tickCount=8)),
        y=alt.Y("value:Q", title=title, scale=alt.Scale(zero=True), axis=alt.Axis(tickCount=5)),
        tooltip=[
            alt.Tooltip("day:T", title="Day"),
            alt.Tooltip("value:Q", format=".3f", title=title),
            alt.Tooltip("n:Q", format=",", title="Predictions"),
            alt.Tooltip("buyers:Q", format=",", title="Buyers"),
        ],
    )
    layers = base.mark_line(color=ACCENT, strokeWidth=2) + base.mark_point(color=ACCENT, filled=True, size=45)
    if reference is None:
        return _styled(layers)
    mark = pd.DataFrame({"value": [reference], "text": [f"reference {reference:.3f}"]})
    rule = alt.Chart(mark).mark_rule(color=WARN, strokeDash=[4, 3]).encode(y="value:Q")
    label = alt.Chart(mark).mark_text(color=WARN, align="left", dx=4, dy=-7, fontSize=12)
    return _styled(layers + rule + label.encode(y="value:Q", x=alt.value(0), text="text:N"))


def arrivals(days: pd.DataFrame) -> Chart:
    """Events by event day (`day`, `events`)."""
    bars = (
        alt.Chart(days)
        .mark_bar(color=ACCENT, opacity=0.85)
        .encode(
            x=alt.X("yearmonthdate(day):T", title=None, axis=alt.Axis(format="%d %b", tickCount=10)),
            y=alt.Y("events:Q", title="Events", axis=alt.Axis(tickCount=5, format="~s")),
            tooltip=[alt.Tooltip("day:T", title="Day"), alt.Tooltip("events:Q", format=",", title="Events")],
        )
    )
    return _styled(bars)


def users_by_platform(profiles: pd.DataFrame) -> Chart:
    """Active users by local day (`day`, `platform`, `users`, `events`), one line a platform."""
    line = (
        alt.Chart(profiles)
        .mark_line(strokeWidth=2)
        .encode(
            x=alt.X("yearmonthdate(day):T", title=None, axis=alt.Axis(format="%d %b", tickCount=10)),
            y=alt.Y("users:Q", title="Active users", axis=alt.Axis(tickCount=5, format="~s")),
            color=alt.Color("platform:N", legend=alt.Legend(title=None, orient="top")),
            tooltip=[
                alt.Tooltip("day:T", title="Day"),
                alt.Tooltip("platform:N", title="Platform"),
                alt.Tooltip("users:Q", format=",", title="Active users"),
                alt.Tooltip("events:Q", format=",", title="Events"),
            ],
        )
    )
    return _styled(line)


def _styled(chart: Chart) -> Chart:
    styled: Chart = (
        chart.properties(height=HEIGHT)
        .configure(background="transparent")
        .configure_view(stroke=None)
        .configure_axis(
            gridColor="#e7e3d8",
            domainColor="#cfc9ba",
            tickColor="#cfc9ba",
            labelColor=INK,
            titleColor=INK,
            titleFontWeight="normal",
        )
    )
    return styled
