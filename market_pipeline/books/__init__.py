"""The rebuild: level-2 messages in, the book after every message out."""
