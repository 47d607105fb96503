"""Page: choose whom to contact among all users, see what to expect of it, take the list home."""

from __future__ import annotations

import io

import pandas as pd
import streamlit as st

from app import audiences, charts, parts, words
from retail_core.scoring.audience import Draw, Figures, Scores, Sizing, drawn
from retail_core.settings import Settings, load_settings
from retail_core.times import iso

SCORES, KEPT = "scores", "kept"
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
    parts.beside_model(settings, _form)
    if SCORES in st.session_state:
        st.divider()
        with parts.explained():
            _audience(settings, st.session_state[SCORES])


def _form(settings: Settings) -> None:
    as_of = st.text_input(
        "As of",
        placeholder="the last midnight of the shop before the newest event",
        help="ISO 8601, such as 2025-02-01T00:00:00Z. Only events before it count.",
    )
    if st.button("Score all users", type="primary", width="stretch"):
        for held in (SCORES, KEPT):
            st.session_state.pop(held, None)
        with parts.explained(), st.spinner("Scoring everybody who was active lately…", show_time=True):
            st.session_state[SCORES] = audiences.score(settings, as_of.strip())


def _audience(settings: Settings, scores: Scores) -> None:
    st.subheader("Whom to contact")
    sizing = _sizing(scores)
    draw = drawn(scores, sizing, settings.seed)
    _figures(draw.figures, scores)
    probability = scores.everybody["probability"]
    left, right = st.columns(2, gap="large")
    left.markdown("###### Users by probability")
    left.altair_chart(charts.probability_histogram(probability, draw.figures.threshold), width="stretch")
    right.markdown("###### Expected buyers reached")
    right.altair_chart(charts.gain_curve(probability, len(draw.chosen)), width="stretch")
    _keep(settings, scores, draw, sizing)


def _sizing(scores: Scores) -> Sizing:
    way = st.segmented_control("Choose by", list(MEANING), default=BUDGET, required=True) or BUDGET
    st.caption(MEANING[way])
    first, second, third = st.columns(3)
    control = third.slider("Control group", 0, 50, 10, 5, format="%d%%", help="Held out at random.") / 100
    if way == BUDGET:
        users = len(scores.everybody)
        budget = first.number_input("Users, control group included", 1, users, max(users // 10, 1))
        return Sizing(budget=int(budget), control=control)
    if way == RECALL:
        share = first.number_input("Share of the buyers to find (%)", 1.0, 99.9, 80.0, 1.0)
        return Sizing(recall=share / 100, control=control)
    if way == COST:
        cost = first.number_input("Cost of one contact", 0.01, None, 1.0)
        value = second.number_input("Value of one purchase", 0.02, None, 20.0)
        return Sizing(cost=cost, value=value, control=control)
    return Sizing(no_miss=True, control=control)


def _figures(figures: Figures, scores: Scores) -> None:
    low, high = figures.expected_buyers_interval
    size = figures.contacted + figures.control
    parts.tiles(
        [
            ("To contact", words.count(figures.contacted), "Users on the list."),
            ("Control group", words.count(figures.control), "Drawn at random and not on the list."),
            (
                "Expected buyers",
                words.count(figures.expected_buyers),
                f"Of both together: the sum of their probabilities. 95 % interval {low:,.0f} to {high:,.0f}.",
            ),
            (
                "Of all expected buyers",
                words.share(figures.expected_recall),
                "Expected recall: their part of what all eligible users are expected to buy.",
            ),
            ("Lowest probability", words.share(figures.threshold), "Of the last user taken in."),
        ]
    )
    st.caption(
        f"Between {low:,.0f} and {high:,.0f} buyers among these {words.count(size)} users, with 95 % "
        f"confidence if the probabilities are right; one in "
        f"{words.decimal(size / max(figures.expected_buyers, 1e-9), 1)} buys. "
        f"Population: all {words.count(figures.eligible)} users active in the last "
        f"{scores.served.spec.feature_set.question.eligible_days} days, as of "
        f"{words.moment(iso(scores.as_of))} · mean probability {words.share(figures.mean_probability, 2)}, "
        f"base rate of the model's test days {words.share(figures.base_rate, 2)} · model version "
        f"{scores.served.spec.version}"
    )


def _keep(settings: Settings, scores: Scores, draw: Draw, sizing: Sizing) -> None:
    if st.button(f"Make this list of {words.count(len(draw.contacted))} users", type="primary"):
        with st.spinner("Drawing the control group and finding reasons…", show_time=True):
            st.session_state[KEPT] = audiences.store(settings, scores, sizing)
    kept: audiences.Kept | None = st.session_state.get(KEPT)
    if kept is None or kept.sizing != sizing:
        return
    st.success(f"Stored as audience `{kept.audience.audience_id}`.", icon=":material/check_circle:")
    st.download_button(
        f"Download these {words.count(kept.audience.contacted)} users with reasons",
        kept.csv,
        audiences.FILE,
        "text/csv",
        type="primary",
        icon=":material/download:",
        on_click="ignore",
    )
    frame = pd.read_csv(io.BytesIO(kept.csv), dtype={"user_id": "str", "model_version": "str"})
    st.markdown(f"###### The first {words.count(min(SHOWN_USERS, len(frame)))} to contact")
    parts.users(frame.head(SHOWN_USERS), ["rank", "user_id", "probability", "reasons"])


main()
