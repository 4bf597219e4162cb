"""Figures that say where data is wrong; the check of the same name validates them."""
