"""The model: split, search, calibrate, certify, judge, register, serve."""
