"""Figures of days and of coverage as SVG, from frames and files.

What notebooks draw with is also offered by `market_pipeline` itself: `plot_day` and the others.

May import `shown`, `errors`, `config`, `warehouse`, `books`, `quality`, `tables` and `notebook`.
"""
