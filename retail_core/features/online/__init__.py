"""The online interpreter: features of one user at one instant, in plain Python."""
