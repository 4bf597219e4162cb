"""Every check in a module of its own: its one sentence, and what it says of a day's figures."""
