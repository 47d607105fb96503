"""Malformed inputs, made from a seed, and what reading them must not do."""
