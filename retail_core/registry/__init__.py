"""The MLflow model registry: sessions, versions, model cards and the promotion record."""
