"""What failed, reported once to every receiver: an outbox on disk, and what empties it.

May import `shown`, `errors`, `threads`, `config`, `warehouse`, `security`, `telemetry`,
`sources`, `quality`, `tables` and `capture`.
"""
