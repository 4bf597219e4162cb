"""The console script `market-pipeline`: verbs only, the work is done below."""
