"""Components that several pages draw."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import pandas as pd
import streamlit as st

from app import formatting as fmt
from app import service
from retail_core.errors import DependencyError, RetailError
from retail_core.settings import Settings

REFRESH_SECONDS = 30

ModelInfo = Mapping[str, Any]
"""The served model as `GET /model` describes it."""


@contextmanager
def show_errors() -> Iterator[None]:
    """Show a RetailError with its remedy instead of the rest of the block."""
    try:
        yield
    except DependencyError as error:
        st.warning(f"**{error.message}**  \nWhat to do: {error.remedy}", icon=":material/cloud_off:")
    except RetailError as error:
        st.error(f"**{error.message}**  \nWhat to do: {error.remedy}", icon=":material/error:")


@st.cache_data(ttl=REFRESH_SECONDS, show_spinner=False)
def _model(address: str, _settings: Settings) -> dict[str, Any]:  # noqa: ARG001 - the cache's key
    with service.connect(_settings) as client:
        return client.model()


def current_model(settings: Settings) -> dict[str, Any]:
    """The served model as `GET /model` describes it, cached for REFRESH_SECONDS.

    Raises:
        RetailError: the service does not answer, or refuses the key.
    """
    return _model(service.url(settings), settings)


def tiles(values: Sequence[tuple[str, str, str]]) -> None:
    """A row of metrics: label, value, tooltip."""
    for column, (label, value, meaning) in zip(st.columns(len(values)), values, strict=True):
        column.metric(label, value, help=meaning, border=True)


def model_card(model: Mapping[str, Any]) -> None:
    """Version, prediction task and quality of the served model."""
    metrics = model["metrics"]
    with st.container(border=True):
        st.markdown(f"##### Model version {model['version']}")
        st.caption(f"trained {fmt.moment(model['trained_at'])}")
        left, right = st.columns(2)
        left.metric("Average precision", fmt.decimal(metrics.get("ap")))
        right.metric("ROC-AUC", fmt.decimal(metrics.get("auc")))
        st.caption(fmt.measured_on(metrics))
        st.caption(fmt.prediction_task(model["question"]))
        st.caption(fmt.certificate(model["certificate"], model["uncertified"]))


def form_with_model_card(settings: Settings, form: Callable[[Settings], None]) -> None:
    """A page's form on the left, the card of the served model on the right."""
    left, right = st.columns([3, 2], gap="large")
    with left:
        form(settings)
    with right, show_errors():
        model_card(current_model(settings))


def user_table(frame: pd.DataFrame, columns: Sequence[str]) -> None:
    """Table of scored users in order of rank, with reasons where the frame has them."""
    shown = frame[[name for name in columns if name in frame]]
    if "reasons" in shown:
        shown = shown.assign(reasons=shown["reasons"].fillna("").map(fmt.reasons))
    st.dataframe(
        shown,
        hide_index=True,
        width="stretch",
        row_height=76 if "reasons" in shown else None,
        column_config={
            "rank": st.column_config.NumberColumn("Rank", width=50),
            "user_id": st.column_config.TextColumn("User", width=100),
            "probability": st.column_config.ProgressColumn(
                "Probability",
                format="percent",
                min_value=0,
                max_value=float(frame["probability"].max()),
                width=130,
            ),
            "will_purchase": st.column_config.CheckboxColumn("Will purchase", width=95),
            "contact": st.column_config.CheckboxColumn("Contact", width=65),
            "policy": st.column_config.TextColumn("Policy", width=70),
            "reasons": st.column_config.TextColumn("Why", width=420),
        },
    )
