"""The embedded MongoDB server: its process, options and idle shutdown."""
