"""Which days are to be run: what the lake lists, what is known of it, what to request."""
