"""What is published: layout, staging, atomic publishing, lineage, and the catalogue users open.

May import `errors`, `threads`, `jit` and `config`.
"""
