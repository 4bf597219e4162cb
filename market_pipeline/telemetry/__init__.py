"""What the pipeline says of itself: figures, kept as files and served; logs, and traces of runs.

May import `scrub`, `shown`, `errors`, `config` and `warehouse`.
"""
