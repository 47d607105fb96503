"""Page: live quality of the production model, triggers, ingested data, versions, model card."""

from __future__ import annotations

from typing import Any

import pandas as pd
import streamlit as st

from app import charts, components, monitor_data
from app import formatting as fmt
from retail_core.registry import versions as registry
from retail_core.registry.champion import find_champion
from retail_core.registry.model_card import model_card
from retail_core.settings import Settings, load_settings

LIVE_METRICS = {"F1": "f1", "Average precision": "ap", "Recall": "recall", "Precision": "precision"}
NEW_DATA, DRIFT, CALIBRATION = "new_data", "drift", "calibration"
TRIGGERS = {
    NEW_DATA: ("New data", "Growth of the events"),
    "performance": ("Performance", "Live F1 at the reference base rate"),
    CALIBRATION: ("Calibration", "Observed buyers relative to promised"),
    DRIFT: ("Drift", "Share of the model in features that have moved"),
    "age": ("Age", "Days since the last training"),
    "schema": ("Schema", "Changed types, fields, platforms and vocabularies"),
    "freshness": ("Freshness", "Hours since the newest event"),
}
_CHECK_COLUMNS = ["at", "name", "fired", "action", "value", "interval", "limit", "model_version", "evidence"]


@st.cache_data(ttl=components.REFRESH_SECONDS, show_spinner="Reading MongoDB…")
def _snapshot(home: str, database: str, _settings: Settings) -> monitor_data.Snapshot:  # noqa: ARG001 - the key
    return monitor_data.read_snapshot(_settings)


def main() -> None:
    """Draw the page."""
    settings = load_settings()
    heading, refresh = st.columns([6, 1], vertical_alignment="bottom")
    heading.title("Monitor")
    if refresh.button("Refresh", icon=":material/refresh:", width="stretch"):
        st.cache_data.clear()
    model = None
    with components.show_errors():
        model = components.current_model(settings)
        _production(model)
    with components.show_errors():
        snapshot = _snapshot(str(settings.home_dir), settings.mongodb_database, settings)
        names = ["Live quality", "Retraining", "Data", "Versions", "Alerts", "Model card"]
        live, retraining, data, history, alerts, card = st.tabs(names)
        with live:
            _live(snapshot, model)
            _online(snapshot.online)
        with retraining:
            _retraining(snapshot.checks)
        with data:
            _data(snapshot)
        with history:
            _history(snapshot.promotions)
            _shadows(snapshot.shadows)
        with alerts:
            _alerts(snapshot.alerts)
        with card:
            _card(settings)


def _card(settings: Settings) -> None:
    """The model card, on demand: the first access to the registry takes seconds."""
    if st.button("Show the model card", icon=":material/description:"):
        version = find_champion(settings)
        spec = registry.version_spec(settings, version) if version else None
        st.markdown(model_card(spec) if spec else "There is no model in production.")


def _production(model: components.ModelInfo) -> None:
    metrics = model["metrics"]
    st.subheader(f"In production: version {model['version']}")
    st.caption(
        f"Trained {fmt.moment(model['trained_at'])} · policies {', '.join(model['policies'])} · "
        f"features {model['feature_set_hash'][:12]} · run {model['run_id'][:12]}"
    )
    components.tiles(
        [
            (
                "AP",
                fmt.decimal(metrics["ap"]),
                "Average precision: area under the precision-recall curve.",
            ),
            ("ROC-AUC", fmt.decimal(metrics["auc"]), "Chance that a buyer ranks above a non-buyer."),
            ("F1", fmt.decimal(metrics["f1"]), "At the best-F1 threshold stored with the model."),
            ("Recall", fmt.share(metrics["recall"]), "Share of the buyers found at that threshold."),
            ("Precision", fmt.share(metrics["precision"]), "Share of those found that did buy."),
            ("Base rate", fmt.share(metrics["base_rate"], 2), "Share of the test rows that bought."),
        ]
    )
    st.caption(fmt.measured_on(metrics) + ".")
    st.caption(fmt.prediction_task(model["question"]))
    st.caption(fmt.certificate(model["certificate"], model["uncertified"]))
    if model["reload_refused"]:
        st.warning(f"The last newer version was refused: {model['reload_refused']}")


def _live(snapshot: monitor_data.Snapshot, model: components.ModelInfo | None) -> None:
    live = snapshot.live
    if live.empty:
        st.info(
            f"No prediction has matured yet ({fmt.count(snapshot.predictions)} are stored). Run "
            "`retail score`, let the horizon pass and newer events come in, then run `retail outcomes`."
        )
        return
    name = st.segmented_control("Metric", list(LIVE_METRICS), default="F1", required=True)
    column = LIVE_METRICS[name or "F1"]
    reference = model["metrics"].get(column) if model else None
    days = live.assign(value=live[column]).dropna(subset=["value"])
    st.altair_chart(charts.against_reference(days, reference, name or "F1"), width="stretch")
    rows, buyers = int(live["n"].sum()), int(live["buyers"].sum())
    st.caption(
        f"Population: every scored user · {fmt.count(rows)} matured predictions on {len(live)} days "
        f"({live['day'].min():%Y-%m-%d} to {live['day'].max():%Y-%m-%d}, {snapshot.zone}), "
        f"{fmt.count(buyers)} of them buyers · base rate {fmt.share(buyers / rows, 2)}. "
        "The reference is the model's own metric on its test period; F1 moves with the base rate."
    )
    with st.expander("Day by day"):
        st.dataframe(
            live,
            hide_index=True,
            width="stretch",
            column_config={
                "day": st.column_config.DateColumn("Day"),
                "base_rate": st.column_config.NumberColumn("Base rate", format="percent"),
                **{
                    value: st.column_config.NumberColumn(key, format="%.3f")
                    for key, value in LIVE_METRICS.items()
                },
                "auc": st.column_config.NumberColumn("ROC-AUC", format="%.3f"),
                "brier": st.column_config.NumberColumn("Brier", format="%.4f"),
                **{
                    f"expected_{value}": st.column_config.NumberColumn(f"{key}, expected", format="%.3f")
                    for key, value in LIVE_METRICS.items()
                },
                "expected_buyers": st.column_config.NumberColumn("Buyers, expected", format="%.1f"),
                "expected_buyers_low": "at least (95 %)",
                "expected_buyers_high": "at most (95 %)",
            },
        )


def _online(online: pd.DataFrame) -> None:
    if online.empty:
        return
    with st.expander("Online answers by day and policy"):
        st.caption("Population: first online answer of each user, policy and day, once its outcome is known.")
        columns = [
            "day",
            "policy",
            "model_version",
            "n",
            "buyers",
            "base_rate",
            "ap",
            "f1",
            "precision",
            "recall",
        ]
        st.dataframe(online.reindex(columns=columns), hide_index=True, width="stretch")


def _shadows(shadows: pd.DataFrame) -> None:
    if shadows.empty:
        return
    st.markdown("###### Versions that score silently beside the champion, newest first")
    columns = ["version", "champion", "role", "state", "verdict", "started", "ended", "reason", "decision"]
    st.dataframe(shadows.reindex(columns=columns), hide_index=True, width="stretch")


def _retraining(checks: pd.DataFrame) -> None:
    if checks.empty:
        st.info("The triggers have not been checked yet. Run `retail retrain --check-only`.")
        return
    latest = checks.drop_duplicates("name")
    for column, (_, check) in zip(st.columns(len(latest)), latest.iterrows(), strict=True):
        with column.container(border=True):
            _trigger(check)
    with st.expander(f"The last {len(checks)} checks"):
        st.dataframe(
            checks.reindex(columns=_CHECK_COLUMNS),
            hide_index=True,
            width="stretch",
            column_config={"at": st.column_config.DatetimeColumn("Checked at (UTC)", timezone="UTC")},
        )


def _trigger(check: pd.Series[Any]) -> None:
    name, label = TRIGGERS.get(check["name"], (check["name"], "Value"))
    formatted = fmt.share if check["name"] in {NEW_DATA, DRIFT, CALIBRATION} else fmt.decimal
    value, limit = (None if pd.isna(check[key]) else float(check[key]) for key in ("value", "limit"))
    quiet = ":gray-badge[not measurable yet]" if value is None else ":green-badge[quiet]"
    st.markdown(f"**{name}** {':red-badge[fires]' if check['fired'] else quiet}")
    st.metric(label, formatted(value))
    if isinstance(interval := check.get("interval"), list):
        st.caption(f"Interval {formatted(interval[0])} to {formatted(interval[1])}")
    st.caption(f"Limit {formatted(limit)} · as of {check['as_of']:%Y-%m-%d %H:%M} UTC")
    st.caption(str(check["evidence"]))


def _data(snapshot: monitor_data.Snapshot) -> None:
    files = snapshot.files
    if files.empty and snapshot.arrivals.empty:
        st.info("Nothing has been ingested yet. Run `retail ingest FILE --source PRESET`.")
        return
    total = files[["rows_read", "inserted", "duplicates", "quarantined"]].sum()
    components.tiles(
        [
            (
                "Rows read",
                fmt.count(total["rows_read"]),
                "Of all files and posts below; the sum of the next three.",
            ),
            ("Events stored", fmt.count(total["inserted"]), "New events."),
            ("Duplicates", fmt.count(total["duplicates"]), "Events that were there already."),
            (
                "In quarantine",
                fmt.count(total["quarantined"]),
                "Refused rows, each with its reason.",
            ),
        ]
    )
    if not snapshot.arrivals.empty:
        st.markdown("###### Events by day of the event (UTC), as the lake has them")
        st.altair_chart(charts.arrivals(snapshot.arrivals), width="stretch")
    if not snapshot.profiles.empty:
        st.markdown("###### Active users by local day and platform")
        st.altair_chart(charts.users_by_platform(snapshot.profiles), width="stretch")
        st.caption("Whole days, as `retail data check` and the triggers last saw them.")
    st.markdown("###### Files and posts")
    numbers = {"rows_read": "Rows read", "inserted": "Stored", "duplicates": "Duplicates"}
    st.dataframe(
        files,
        hide_index=True,
        width="stretch",
        column_config={
            "file": "File",
            "source": "Source",
            "state": "State",
            **{
                name: st.column_config.NumberColumn(label, format="localized")
                for name, label in (numbers | {"quarantined": "In quarantine"}).items()
            },
            "started_at": st.column_config.DatetimeColumn("Started (UTC)", timezone="UTC"),
        },
    )
    if not snapshot.refused.empty:
        st.markdown("###### Waiting in quarantine")
        st.dataframe(snapshot.refused, hide_index=True, width="stretch")


def _history(promotions: pd.DataFrame) -> None:
    if promotions.empty:
        st.info("No version has been promoted yet. Run `retail train`.")
        return
    st.caption("Every change of the production version, newest first; nothing is ever removed from this log.")
    st.dataframe(
        promotions,
        hide_index=True,
        width="stretch",
        column_config={
            "at": st.column_config.DatetimeColumn("When (UTC)", timezone="UTC"),
            "kind": "Kind",
            "version": st.column_config.TextColumn("Version", width="small"),
            "previous": st.column_config.TextColumn("Before", width="small"),
            "actor": "Who",
            "reason": st.column_config.TextColumn("Reason", width="large"),
            "policy": "Measured on",
            **{
                name: st.column_config.NumberColumn(label, format="%.3f")
                for name, label in {"ap": "AP", "auc": "ROC-AUC", "f1": "F1"}.items()
            },
            "base_rate": st.column_config.NumberColumn("Base rate", format="percent"),
            "n": "Rows",
            "positives": "Buyers",
        },
    )


def _alerts(alerts: pd.DataFrame) -> None:
    if alerts.empty:
        st.info("No alert has been raised yet. `retail alerts test` tests the delivery.")
        return
    undelivered = alerts[alerts["state"].isin(["pending", "failed"]) & alerts["error"].notna()]
    if not undelivered.empty:
        error = undelivered["error"].iloc[0]
        st.warning(f"Not delivered so far: {fmt.count(len(undelivered))}. The newest of them: {error}.")
    st.caption("Every alert with its next step, newest first; the same cause is one alert.")
    st.dataframe(
        alerts.reindex(columns=["last_at", "title", "text", "next_step", "count", "state"]),
        hide_index=True,
        width="stretch",
        row_height=110,
        column_config={
            "last_at": st.column_config.DatetimeColumn(
                "When (UTC)", timezone="UTC", format="YYYY-MM-DD HH:mm"
            ),
            "title": st.column_config.TextColumn("Alert", width="medium"),
            "text": st.column_config.TextColumn("What happened", width="medium"),
            "next_step": st.column_config.TextColumn("Next step", width="medium"),
            "count": st.column_config.NumberColumn("Times", width="small"),
            "state": st.column_config.TextColumn("Delivery", width="small"),
        },
    )


main()
