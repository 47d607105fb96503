"""Who will buy in the next 24 hours: the domain. Imports neither Prefect nor BentoML nor Streamlit."""

__version__ = "0.2.0"
