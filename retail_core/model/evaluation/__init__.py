"""Metrics with intervals, segments and plots of an evaluated model."""
