"""Where the data is wrong: gaps, clocks, crossed books, precision; the report and its verdict.

May import `shown`, `errors`, `jit`, `config`, `warehouse`, `sources` and `books`.
"""
