"""Batch scores, audiences, and the shop context that the service reads."""
