"""The batch interpreter: features of many (user, cut-off) pairs, on DuckDB or Spark."""
