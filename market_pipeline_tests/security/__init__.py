"""Tests of sealed files and of the keys that open them."""
