"""Microstructure figures from valid books: spread, mid, depth, imbalance, activity.

May import `mapped`, `config`, `warehouse`, `sources`, `books` and `quality`.
"""
