"""The Streamlit app. One file per page in `views`; shared components, charts and data access beside them."""
