"""Profiles of the data by local day and platform: what was recorded, in which fields, with which values."""
