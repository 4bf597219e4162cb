"""The object store raw days come from: its address, its client, and how an object is downloaded.

May import `scrub`, `shown`, `errors`, `threads`, `config`, `warehouse`, `telemetry` and
`security`.
"""
