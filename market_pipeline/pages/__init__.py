"""Pages to read in a browser, each a file that needs nothing else.

May import `shown`, `config`, `warehouse`, `quality`, `tables` and `plots`.
"""
