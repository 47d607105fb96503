"""The Streamlit app. One file a page in `views`; shared components, charts and data access beside them."""
