"""Microstructure figures from valid books, and bars: spread, mid, depth, imbalance, activity.

May import `errors`, `mapped`, `config`, `warehouse`, `sources`, `books` and `quality`.
"""
