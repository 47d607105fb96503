"""Erasure of a user from every store."""
