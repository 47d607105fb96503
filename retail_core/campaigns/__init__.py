"""Campaigns: whom to contact, who is held out, who was contacted, and what contacting changed."""
