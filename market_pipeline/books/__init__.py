"""The rebuild: level-2 messages in, the book after every message out.

May import `mapped`, `jit`, `config`, `warehouse` and `sources`.
"""
