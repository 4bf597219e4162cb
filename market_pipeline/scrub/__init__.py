"""Secrets taken out of every text before it leaves the process.

The lowest layer, as whatever shows a text uses it: imports nothing of the package.
"""
