"""Page: one user's probability of buying, and what raises or lowers it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import streamlit as st

from app import parts, service, words
from retail_core.settings import load_settings

BADGES = {
    "raises": ":green-badge[:material/arrow_upward: raises]",
    "lowers": ":orange-badge[:material/arrow_downward: lowers]",
}

Json = Mapping[str, Any]  # what the service says


def main() -> None:
    """Draw the page."""
    settings = load_settings()
    st.title("Look up a user")
    st.markdown("What the model says of one user right now, or at another time, and why.")
    left, right = st.columns([3, 2], gap="large")
    with left, st.form("user", border=False):
        user = st.text_input("User id").strip()
        as_of = st.text_input(
            "As of",
            placeholder="now",
            help="ISO 8601, such as 2025-02-01T00:00:00Z. Only events before it count.",
        )
        asked = st.form_submit_button("Look up", type="primary", width="stretch")
    with right, parts.explained():
        model = parts.current_model(settings)
        parts.model_card(model)
        if asked and user:
            with left:
                _answer(service.predict(settings, user, as_of.strip()), model)


def _answer(answer: Json, model: Json) -> None:
    base = model["base_rate"]
    st.subheader(f"User {answer['user_id']}")
    parts.tiles(
        [
            (
                "Probability of buying",
                words.share(answer["probability"]),
                f"Within {model['question']['horizon_hours']} hours after the cut-off.",
            ),
            (
                "Against the average",
                f"{answer['probability'] / base:,.1f} x" if base else "n/a",
                f"The base rate is {words.share(base, 2)}.",
            ),
            (
                "To contact",
                "yes" if answer["contact"] else "no",
                f"Yes from {words.share(answer['threshold'], 2)} on, the threshold of the recall target.",
            ),
        ]
    )
    st.markdown("###### What moves this probability most")
    for reason in answer.get("reasons", ()):
        said, part = words.plain(reason["text"]), words.share(reason["share"], 0)
        st.markdown(
            f"{BADGES[reason['effect']]} {said} :gray[· {part}]",
            help="Its part of all that moves this probability away from the average user's.",
        )
    st.caption(
        f"As of {words.moment(answer['as_of'])} · policy {answer['policy']} · history {answer['history']} · "
        f"model version {answer['model_version']}. The model compares with the average user; a reason says "
        "what the model looks at, not what would make the user buy."
    )
    for warning in answer.get("warnings", ()):
        st.warning(warning)


main()
