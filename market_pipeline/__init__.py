"""Trusted level-2 order book history: raw vendor days in, rebuilt books and verdicts out."""

from __future__ import annotations

from importlib.metadata import version

__all__ = ["__version__"]

__version__ = version("market-pipeline")
