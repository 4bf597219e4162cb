"""Adds up what all processes recorded, and hands it out: scraped, or pushed."""
