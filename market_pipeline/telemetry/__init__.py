"""What the pipeline says of itself: figures, kept as files and served, and the log of processes.

May import `scrub`, `errors`, `config` and `warehouse`.
"""
