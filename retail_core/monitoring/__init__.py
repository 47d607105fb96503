"""Matured predictions, live metrics, drift, triggers and the decision to retrain."""
