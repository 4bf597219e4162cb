"""Where the data is wrong: gaps, clocks, crossed books, precision; the report and its verdict.

May import `shown`, `errors`, `mapped`, `jit`, `config`, `warehouse`, `sources` and `books`.
"""
