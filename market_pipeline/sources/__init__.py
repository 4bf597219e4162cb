"""Where raw rows come from: one module per format, each with its boundary, clock and sequence.

May import `shown`, `errors`, `mapped`, `threads`, `jit`, `config`, `warehouse`,
`security` and `telemetry`.
"""
