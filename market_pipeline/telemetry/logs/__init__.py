"""What processes log, as lines of JSON in `logs/` or for journald, and how it is found again."""
