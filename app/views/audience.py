"""Page: choose an audience among all eligible users, see its expected buyers, download the list."""

from __future__ import annotations

import io

import pandas as pd
import streamlit as st

from app import audience_store, charts, components
from app import formatting as fmt
from retail_core.scoring.audience_selection import AudienceDraw, AudienceEstimate, ScoredUsers, draw_audience
from retail_core.scoring.audience_sizing import Sizing
from retail_core.settings import Settings, load_settings
from retail_core.times import iso

SCORES, STORED = "scores", "stored_audience"
SHOWN_USERS = 50
BUDGET, RECALL, COST, NO_MISS = "A budget", "A share of the buyers", "Cost and value", "Nobody missed"
MEANING = {
    BUDGET: "The most likely buyers, as many as you can contact.",
    RECALL: "Enough users to find that share of the buyers, promised with the model's confidence.",
    COST: "Everybody whose chance of buying is worth the contact: probability above cost / value.",
    NO_MISS: "Everybody who scores no lower than any buyer the model was certified on.",
}


def main() -> None:
    """Draw the page."""
    settings = load_settings()
    st.title("Choose an audience")
    st.markdown(
        "Score every user who was active lately, choose how many of them to contact, and take the list home. "
        "A part is held out at random, so that afterwards the effect of contacting can be measured."
    )
    components.form_with_model_card(settings, _form)
    if SCORES in st.session_state:
        st.divider()
        with components.show_errors():
            _audience(settings, st.session_state[SCORES])


def _form(settings: Settings) -> None:
    as_of = st.text_input(
        "As of",
        placeholder="the next midnight of the shop if its last day is complete, else the newest event",
        help="ISO 8601, such as 2025-02-01T00:00:00Z. Only events before it count.",
    )
    if st.button("Score all users", type="primary", width="stretch"):
        for key in (SCORES, STORED):
            st.session_state.pop(key, None)
        with components.show_errors(), st.spinner("Scoring everybody who was active lately…", show_time=True):
            st.session_state[SCORES] = audience_store.score(settings, as_of.strip())


def _audience(settings: Settings, scores: ScoredUsers) -> None:
    for warning in scores.warnings:
        st.warning(warning, icon=":material/warning:")
    if scores.statement:
        st.markdown(f"**Predicted: {scores.statement}**")
    st.subheader("Whom to contact")
    sizing = _sizing(scores)
    draw = draw_audience(scores, sizing, settings.seed)
    _figures(draw.estimate, scores)
    probability = scores.predictions["probability"]
    left, right = st.columns(2, gap="large")
    left.markdown("###### Users by probability")
    left.altair_chart(charts.probability_histogram(probability, draw.estimate.threshold), width="stretch")
    right.markdown("###### Expected buyers reached")
    right.altair_chart(charts.gain_curve(probability, len(draw.members)), width="stretch")
    _store(settings, scores, draw, sizing)


def _sizing(scores: ScoredUsers) -> Sizing:
    method = st.segmented_control("Choose by", list(MEANING), default=BUDGET, required=True) or BUDGET
    st.caption(MEANING[method])
    first, second, third = st.columns(3)
    control = third.slider("Control group", 0, 50, 10, 5, format="%d%%", help="Held out at random.") / 100
    if method == BUDGET:
        user_count = len(scores.predictions)
        budget = first.number_input("Users, control group included", 1, user_count, max(user_count // 10, 1))
        return Sizing(budget=int(budget), control=control)
    if method == RECALL:
        share = first.number_input("Share of the buyers to find (%)", 1.0, 99.9, 80.0, 1.0)
        return Sizing(recall=share / 100, control=control)
    if method == COST:
        cost = first.number_input("Cost of one contact", 0.01, None, 1.0)
        value = second.number_input("Value of one purchase", 0.02, None, 20.0)
        return Sizing(cost=cost, value=value, control=control)
    return Sizing(no_miss=True, control=control)


def _figures(figures: AudienceEstimate, scores: ScoredUsers) -> None:
    low, high = figures.expected_buyers_interval
    size = figures.contacted + figures.control
    components.tiles(
        [
            ("To contact", fmt.count(figures.contacted), "Users on the list."),
            ("Control group", fmt.count(figures.control), "Drawn at random and not on the list."),
            (
                "Expected buyers",
                fmt.count(figures.expected_buyers),
                f"Of both together: the sum of their probabilities. 95 % interval {low:,.0f} to {high:,.0f}.",
            ),
            (
                "Of all expected buyers",
                fmt.share(figures.expected_recall),
                "Expected recall: their part of what all eligible users are expected to buy.",
            ),
            ("Lowest probability", fmt.share(figures.threshold), "Of the last user taken in."),
        ]
    )
    st.caption(
        f"Between {low:,.0f} and {high:,.0f} buyers among these {fmt.count(size)} users, with 95 % "
        f"confidence if the probabilities are right; one in "
        f"{fmt.decimal(size / max(figures.expected_buyers, 1e-9), 1)} buys. "
        f"Population: all {fmt.count(figures.eligible)} users active in the last "
        f"{scores.served.spec.feature_set.task.eligible_days} days, as of "
        f"{fmt.moment(iso(scores.as_of))} · mean probability {fmt.share(figures.mean_probability, 2)}, "
        f"base rate of the model's test days {fmt.share(figures.base_rate, 2)} · model version "
        f"{scores.served.spec.version}"
    )


def _store(settings: Settings, scores: ScoredUsers, draw: AudienceDraw, sizing: Sizing) -> None:
    if st.button(f"Make this list of {fmt.count(len(draw.contacted))} users", type="primary"):
        with st.spinner("Drawing the control group and finding reasons…", show_time=True):
            st.session_state[STORED] = audience_store.store(settings, scores, sizing)
    stored: audience_store.StoredAudience | None = st.session_state.get(STORED)
    if stored is None or stored.sizing != sizing:
        return
    st.success(f"Stored as audience `{stored.audience.audience_id}`.", icon=":material/check_circle:")
    st.download_button(
        f"Download these {fmt.count(stored.audience.contacted)} users with reasons",
        stored.csv,
        audience_store.FILE,
        "text/csv",
        type="primary",
        icon=":material/download:",
        on_click="ignore",
    )
    frame = pd.read_csv(io.BytesIO(stored.csv), dtype={"user_id": "str", "model_version": "str"})
    st.markdown(f"###### The first {fmt.count(min(SHOWN_USERS, len(frame)))} to contact")
    components.user_table(frame.head(SHOWN_USERS), ["rank", "user_id", "probability", "reasons"])


main()
