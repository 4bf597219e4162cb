"""Figures: how each is declared, and how it is recorded and written to `metrics/`."""
