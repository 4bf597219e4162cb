"""The report stage as an asset, and the checks."""
