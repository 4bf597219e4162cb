"""Every setting, read in one place: the environment, `.env` and the instruments file.

May import `scrub` and `errors`.
"""
