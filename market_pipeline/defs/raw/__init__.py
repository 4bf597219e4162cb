"""The raw stage as assets."""
