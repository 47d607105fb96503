"""The lake: MongoDB's events and user attributes, and predictions, as Delta tables."""
