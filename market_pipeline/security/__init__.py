"""What is sealed at rest: the form of a sealed file, and the keys that open it.

May import `scrub`, `shown`, `errors`, `config` and `warehouse`.
"""
