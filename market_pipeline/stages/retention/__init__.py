"""Which data may be removed, whether it could be had again, and removing it."""
