"""The reference book: the rules of a rebuild once more, in plain dicts and integers."""
