"""Microstructure figures from valid books: spread, mid, depth, imbalance, activity."""
