"""Figures of days and of coverage as SVG, from frames and files.

May import `shown`, `books` and `quality`.
"""
