"""The pipeline's stages as plain functions of a day, in the day's order, without Dagster.

May import `shown`, `errors`, `mapped`, `memory`, `threads`, `jit`, `config`, `warehouse`,
`security`, `audit`, `telemetry`, `store`, `sources`, `books`, `quality`, `metrics` and `tables`.
"""
