"""What failed, reported once to every receiver: an outbox on disk, and what empties it."""
