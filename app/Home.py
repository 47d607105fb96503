"""Entry point of the app (`streamlit run app/Home.py`): page titles, addresses and navigation."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

# Not named `pages`: Streamlit serves pages of a folder of that name without running this file.
PAGES = Path(__file__).parent / "views"


def main() -> None:
    """Draw the navigation and the selected page."""
    st.set_page_config(page_title="Purchase within 24 hours", page_icon="🛍️", layout="wide")
    score = st.Page(
        PAGES / "score.py",
        title="Score a file",
        icon=":material/upload_file:",
        url_path="score",
        default=True,
    )
    audience = st.Page(PAGES / "audience.py", title="Choose an audience", icon=":material/groups:")
    user = st.Page(PAGES / "user.py", title="Look up a user", icon=":material/person_search:")
    monitor = st.Page(PAGES / "monitor.py", title="Monitor", icon=":material/monitoring:")
    st.navigation({"Purchase within 24 hours": [score, audience, user, monitor]}).run()


main()
