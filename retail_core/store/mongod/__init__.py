"""The embedded MongoDB server: its process, replica set and idle shutdown."""
