"""Dagster, thin: one folder per stage; everything below this package runs without it.

May import everything below it.
"""
