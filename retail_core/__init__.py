"""Predict which users of a shop buy within the next 24 hours: the domain library.

It imports neither Prefect nor BentoML nor Streamlit.
"""

__version__ = "0.2.0"
