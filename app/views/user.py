"""Page: the probability of one user, and the reasons for it."""

from __future__ import annotations

import streamlit as st

from app import components, service
from app import formatting as fmt
from retail_core.client import UserPrediction
from retail_core.settings import Settings, load_settings
from retail_core.times import parse_instant

BADGES = {
    "raises": ":green-badge[:material/arrow_upward: raises]",
    "lowers": ":orange-badge[:material/arrow_downward: lowers]",
}


def main() -> None:
    """Draw the page."""
    settings = load_settings()
    st.title("Look up a user")
    st.markdown("The predicted probability of one user, now or at another time, and the reasons for it.")
    left, right = st.columns([3, 2], gap="large")
    with left, st.form("user", border=False):
        user = st.text_input("User id").strip()
        as_of = st.text_input(
            "As of",
            placeholder="now",
            help="ISO 8601, such as 2025-02-01T00:00:00Z. Only events before it count.",
        )
        submitted = st.form_submit_button("Look up", type="primary", width="stretch")
    with right, components.show_errors():
        model = components.current_model(settings)
        components.model_card(model)
        if submitted and user:
            with left:
                _show_prediction(_predict(settings, user, as_of.strip()), model)


def _predict(settings: Settings, user_id: str, as_of: str) -> UserPrediction:
    cutoff = parse_instant(as_of, "UTC") if as_of else None
    with service.connect(settings) as client:
        return client.predict(user_id, as_of=cutoff, reasons=True)


def _show_prediction(prediction: UserPrediction, model: components.ModelInfo) -> None:
    base = model["base_rate"]
    st.subheader(f"User {prediction.user_id}")
    components.tiles(
        [
            (
                "Probability of buying",
                fmt.share(prediction.probability),
                f"Within {model['question']['horizon_hours']} hours after the cut-off.",
            ),
            (
                "Against the average",
                f"{prediction.probability / base:,.1f} x" if base else "n/a",
                f"The base rate is {fmt.share(base, 2)}.",
            ),
            (
                "To contact",
                "yes" if prediction.contact else "no",
                f"Yes from {fmt.share(prediction.threshold, 2)} on, the threshold of the recall target.",
            ),
        ]
    )
    st.markdown("###### What moves this probability most")
    for reason in prediction.reasons:
        text, share = fmt.escape_markdown(reason.text), fmt.share(reason.share, 0)
        st.markdown(
            f"{BADGES[reason.effect]} {text} :gray[· {share}]",
            help="Share of the total contribution that moves this probability away from the average user's.",
        )
    st.caption(
        f"As of {fmt.moment(prediction.as_of)} · policy {prediction.policy} · history {prediction.history} · "
        f"model version {prediction.model_version}. The model compares with the average user; a reason says "
        "what the model looks at, not what would make the user buy."
    )
    for warning in prediction.warnings:
        st.warning(warning)


main()
