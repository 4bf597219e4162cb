"""What failed, reported once to every receiver: an outbox on disk, and what empties it.

May import `shown`, `errors`, `threads`, `config`, `warehouse`, `telemetry`, `sources`,
`quality`, `tables` and `capture`.
"""
