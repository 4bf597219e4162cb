"""Compares books that were published, or made, with golden ones."""
