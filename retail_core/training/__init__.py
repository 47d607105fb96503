"""The training pipeline, comparison with the champion, and recalibration."""
