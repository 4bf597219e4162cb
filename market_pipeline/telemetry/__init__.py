"""What the pipeline says of itself, in files that every process writes, and what hands it out.

`metrics/` has figures, `traces/` spans, `logs/` lines; `bridge/` adds the figures up and serves or
pushes the sums.

May import `scrub`, `shown`, `errors`, `config`, `warehouse` and `security`.
"""
