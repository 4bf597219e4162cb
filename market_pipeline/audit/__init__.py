"""Who read and wrote what, when and why: an append-only log whose entries are chained.

May import `shown`, `errors`, `config`, `warehouse` and `security`.
"""
