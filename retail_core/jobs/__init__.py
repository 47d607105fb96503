"""Scoring jobs: uploaded files to score; their states, leases and files in MongoDB."""
