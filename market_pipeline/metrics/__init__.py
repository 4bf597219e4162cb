"""Figures of intervals from valid books and trades, bars, and trades with their books.

May import `errors`, `mapped`, `jit`, `config`, `warehouse`, `sources`, `books` and `quality`.
"""
