"""What a thread works on, and the spans of a run that are made of it."""
