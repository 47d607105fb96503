"""Page: upload a log, see the scored users, choose whom to contact, download the list."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import pandas as pd
import streamlit as st

from app import charts, components, service
from app import formatting as fmt
from retail_core.client import FileToScore, ScoredFile, ScoringJob
from retail_core.settings import Settings, load_settings

UPLOAD, RESULT, MAPPING = "upload", "result", "mapping"
TOP_USERS = 50
MAPPING_EXAMPLE = """name: my_shop
columns: {user_id: customer, event_time: time, event_type: action, price: amount}
event_types: {Order: purchase}
time: ["%d.%m.%Y %H:%M"]
timezone: Europe/Berlin
delimiter: ";"
"""
RECALL, LIKELY, BUDGET = "Recall target", "Likely buyers (best F1)", "A budget"


def main() -> None:
    """Draw the page."""
    settings = load_settings()
    st.title("Score a file")
    st.markdown(
        "Upload a log of what users did. Each of them comes back with the probability of buying within the "
        "model's horizon, most likely first."
    )
    components.form_with_model_card(settings, _form)
    if RESULT in st.session_state:
        st.divider()
        _result(st.session_state[RESULT])


def _form(settings: Settings) -> None:
    uploaded = st.file_uploader(
        "Events (CSV, also .gz or .zst, or Parquet)",
        type=["csv", "gz", "zst", "parquet", "jsonl"],
        help=f"At most {settings.upload_mb} MB. A file of features, one row per user, is accepted too.",
    )
    if uploaded is not None:
        st.session_state[UPLOAD] = (uploaded.name, uploaded.getvalue())
    first, second = st.columns(2)
    sources = {**fmt.PRESETS, MAPPING: "Another system: my own mapping"}
    source = first.selectbox("Written by", list(sources), format_func=sources.__getitem__)
    as_of = second.text_input(
        "As of",
        placeholder="the next midnight of the shop if its last day is complete, else the newest event",
        help="ISO 8601, such as 2025-02-01T00:00:00Z. Only events before it count.",
    )
    mapping = _mapping() if source == MAPPING else ""
    upload: tuple[str, bytes] | None = st.session_state.get(UPLOAD)
    if upload is not None and uploaded is None:
        st.caption(f":material/draft: {upload[0]}, {len(upload[1]) / 1e6:,.1f} MB")
    is_incomplete = upload is None or (source == MAPPING and not mapping)
    if st.button("Score", type="primary", disabled=is_incomplete, width="stretch") and upload is not None:
        st.session_state.pop(RESULT, None)
        with components.show_errors():
            file = FileToScore(*upload, source, as_of.strip(), service.EXPLAINED_USERS, mapping)
            st.session_state[RESULT] = _score(settings, file)


def _mapping() -> str:
    """The mapping as edited on the page; an uploaded one replaces the text."""
    st.file_uploader(
        "Mapping (YAML), the one of `retail ingest --mapping`",
        type=["yaml", "yml"],
        key="mapping_file",
        on_change=_take_mapping_file,
    )
    text: str = st.text_area(
        "Mapping, to edit",
        key="mapping_text",
        height=240,
        placeholder=MAPPING_EXAMPLE,
        help="docs/sources.md lists the keys with examples.",
    )
    return text.strip()


def _take_mapping_file() -> None:
    if (file := st.session_state["mapping_file"]) is not None:
        st.session_state["mapping_text"] = file.getvalue().decode("utf-8", "replace")


def _score(settings: Settings, file: FileToScore) -> ScoredFile:
    with st.status("The file is sent…") as status, service.connect(settings) as client:
        scored = client.score_upload(file, lambda job: status.update(label=_progress(job)))
        status.update(label="Scored", state="complete")
    return scored


def _progress(job: ScoringJob) -> str:
    """What a job is at, in words."""
    progress = job.progress
    if job.state == "queued":
        return "The file is stored and waits for its turn…"
    if progress["step"] == "reading":
        rows = f" of about {fmt.count(progress['rows'])}" if progress["rows"] else ""
        return f"Reading: {fmt.count(progress['rows_done'])}{rows} rows…"
    if not progress["users"]:
        return "Scoring…"
    return f"Scoring: {fmt.count(progress['users_done'])} of {fmt.count(progress['users'])} users…"


def _result(scored: ScoredFile) -> None:
    report = scored.report
    frame = pd.read_csv(io.BytesIO(scored.csv), dtype={"user_id": "str", "model_version": "str"})
    for warning in report.get("warnings", ()):
        st.warning(warning, icon=":material/warning:")
    if statement := report.get("statement"):
        st.markdown(f"**Predicted: {statement}**")
    _read_counts(report)
    st.subheader("Who will buy")
    components.tiles(
        [
            (
                "Users scored",
                fmt.count(len(frame)),
                "Users of the file with an event in the eligibility window.",
            ),
            (
                "Expected buyers",
                fmt.count(frame["probability"].sum()),
                "Sum of the probabilities: how many of them will buy if the model is right.",
            ),
            (
                "To contact",
                fmt.count(frame["contact"].sum()),
                "At or above the model's threshold for its recall target.",
            ),
            (
                "Highest probability",
                fmt.share(frame["probability"].max()),
                "Of the user at the top of the list.",
            ),
        ]
    )
    population = "every eligible user" if report["kind"] == "events" else "every user"
    st.caption(
        f"Population: {population} of the file, as of {fmt.moment(report['as_of'])} · model version "
        f"{report['model_version']} · policy {report['policy']}"
    )
    audience = _choose(frame)
    _charts(frame, audience)
    _downloads(scored, audience)
    _table(frame)


def _read_counts(report: Mapping[str, Any]) -> None:
    st.subheader("What was read")
    unit = "events" if report["kind"] == "events" else "users"
    silent = report["silent_users"]
    components.tiles(
        [
            (
                "Rows read",
                fmt.count(report["rows_read"]),
                "Rows of the file; the sum of the next three.",
            ),
            (f"Usable {unit}", fmt.count(report["used"]), "Rows that were used."),
            (
                "Duplicates",
                fmt.count(report["duplicates"]),
                "Rows that were there before, to the letter.",
            ),
            (
                "Refused",
                fmt.count(report["refused"]),
                "Rows that break a rule; see below which and why.",
            ),
        ]
    )
    if silent:
        st.caption(f"{fmt.count(silent)} users have no event in the eligibility window and are not scored.")
    if report.get("filtered"):
        st.caption(f"{fmt.count(report['filtered'])} further rows were left out, as the mapping says.")
    if report["features_missing"]:
        missing = ", ".join(
            f"{name} ({fmt.count(rows)})" for name, rows in report["features_missing"].items()
        )
        st.caption(f"Missing feature values, taken as unknown: {missing}")
    if report["refused"]:
        with st.expander(f"Why {fmt.count(report['refused'])} rows were refused (the first of them)"):
            st.dataframe(pd.DataFrame(report["examples"]), hide_index=True, width="stretch")
    if report.get("value_warnings"):
        with st.expander("Values that were left out or changed (their events were used)"):
            st.dataframe(pd.DataFrame(report["value_warnings"]), hide_index=True, width="stretch")


def _choose(frame: pd.DataFrame) -> pd.DataFrame:
    """The users to contact by the selected operating point; `frame` is in order of rank."""
    st.subheader("Whom to contact")
    choice = st.segmented_control(
        "Choose by",
        [RECALL, LIKELY, BUDGET],
        default=RECALL,
        required=True,
        label_visibility="collapsed",
    )
    if choice == BUDGET:
        top = st.slider("Users to contact", 1, max(len(frame), 2), min(max(len(frame) // 10, 1), len(frame)))
        audience = frame.head(top)
    else:
        audience = frame[frame["contact" if choice == RECALL else "will_purchase"]]
    total = float(frame["probability"].sum())
    expected = float(audience["probability"].sum())
    reached = expected / total if total else 0.0
    st.markdown(
        f"**{fmt.count(len(audience))}** of {fmt.count(len(frame))} users, among them "
        f"**{fmt.count(expected)}** expected buyers: **{fmt.share(reached, 0)}** of all expected buyers, "
        f"one in {fmt.decimal(len(audience) / expected if expected else None, 1)} contacted users buys."
    )
    return audience


def _charts(frame: pd.DataFrame, audience: pd.DataFrame) -> None:
    threshold = float(audience["probability"].min()) if len(audience) else None
    left, right = st.columns(2, gap="large")
    left.markdown("###### Users by probability")
    left.altair_chart(charts.probability_histogram(frame["probability"], threshold), width="stretch")
    right.markdown("###### Expected buyers reached")
    right.altair_chart(charts.gain_curve(frame["probability"], len(audience)), width="stretch")


def _downloads(scored: ScoredFile, audience: pd.DataFrame) -> None:
    left, right = st.columns(2, gap="large")
    left.download_button(
        "Download the scored CSV",
        scored.csv,
        "scored.csv",
        "text/csv",
        type="primary",
        icon=":material/download:",
        width="stretch",
        on_click="ignore",
    )
    right.download_button(
        f"Download these {fmt.count(len(audience))} users",
        audience.to_csv(index=False).encode(),
        "audience.csv",
        "text/csv",
        icon=":material/download:",
        width="stretch",
        on_click="ignore",
    )


def _table(frame: pd.DataFrame) -> None:
    st.markdown(f"###### The {min(TOP_USERS, len(frame))} most likely buyers")
    components.user_table(
        frame.head(TOP_USERS),
        ["rank", "user_id", "probability", "will_purchase", "contact", "policy", "reasons"],
    )


main()
