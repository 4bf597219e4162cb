"""The console script `market-pipeline`: verbs only, the work is done below.

May import everything below it.
"""
