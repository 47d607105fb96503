"""Alerts: what people are told about promotions, triggers, runs and data, by e-mail, chat or webhook.

Any package above the store may raise one with `raising.raise_alert`.
"""
