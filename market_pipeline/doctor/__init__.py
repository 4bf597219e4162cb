"""The look before a start: is everything the pipeline needs there, and usable?

May import `shown`, `errors`, `config`, `warehouse`, `security`, `audit`, `telemetry`, `store`,
`sources`, `tables`, `stages`, `backup` and `machine`.
"""
