"""Models: periods, search, fitting, calibration, thresholds, evaluation, explanations, leakage guard."""
