"""Is what was expected there, and does what should run still run? From outside of Dagster.

`look.look` finds it, `telling.tell` has it delivered. Nothing here needs the code location: what it
watches is what would otherwise have to report its own end.

May import `errors`, `config`, `warehouse`, `security`, `telemetry`, `store`, `quality`, `tables`,
`capture`, `alerts`, `machine` and `doctor`.
"""
