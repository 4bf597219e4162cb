"""What a notebook uses: rebuild a book, load what is published, look at the book of an instant.

Everything here is also offered by `market_pipeline` itself: `from market_pipeline import rebuild`.

May import `errors`, `mapped`, `config`, `warehouse`, `security`, `audit`, `sources`,
`books`, `quality`, `metrics`, `tables` and `stages`.
"""
