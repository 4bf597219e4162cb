"""The rebuild stage as assets."""
