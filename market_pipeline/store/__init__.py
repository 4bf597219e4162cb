"""The object store raw days come from: its address, its client, and how an object is downloaded.

May import `errors`, `threads`, `config` and `warehouse`.
"""
