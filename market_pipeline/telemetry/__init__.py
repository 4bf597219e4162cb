"""What the pipeline says of itself in figures: declared, recorded, kept as files, and served.

May import `errors`, `config` and `warehouse`.
"""
