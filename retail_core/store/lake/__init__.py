"""The lake: MongoDB's events and user attributes mirrored as Parquet files."""
