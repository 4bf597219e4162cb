"""Figures of days and of coverage, as Matplotlib draws them, from frames and files.

May import `books` and `quality`.
"""
