"""Backups of the database, the registry and the settings of a home, and restoring them into another home."""
