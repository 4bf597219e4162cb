"""The metrics stage as an asset."""
