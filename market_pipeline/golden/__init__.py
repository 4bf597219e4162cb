"""Golden samples: labelled spans of recordings that are kept, and what they are worth.

May import `shown`, `errors`, `config`, `warehouse`, `security`, `sources` and `tables`.
"""
