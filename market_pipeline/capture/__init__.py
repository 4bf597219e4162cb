"""Live capture: frames as the venue sent them, the live book, and what is made of both.

May import `shown`, `errors`, `mapped`, `memory`, `threads`, `jit`, `config`, `warehouse`,
`security`, `telemetry`, `sources`, `books`, `quality`, `metrics`, `tables` and `stages`.
"""
