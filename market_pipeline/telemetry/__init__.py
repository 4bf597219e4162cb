"""What the pipeline says of itself: figures (`metrics/`), spans (`traces/`) and lines (`logs/`), each
written to files by every process, and the `bridge/` that adds figures up and hands them out.

May import `scrub`, `shown`, `errors`, `config` and `warehouse`.
"""
