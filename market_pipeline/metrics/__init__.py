"""Microstructure figures from valid books, and bars: spread, mid, depth, imbalance, activity.

May import `errors`, `mapped`, `jit`, `config`, `warehouse`, `sources`, `books` and `quality`.
"""
