"""Deterministic simulation of shop-days with faults: one seed decides what happens and what fails."""
