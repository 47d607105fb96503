"""The Streamlit app: score a file, watch the system. One file a page; what they share lies beside."""
