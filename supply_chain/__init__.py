"""What `make security` runs beside the linter: a scan for secrets, and the bill of materials.

It is no part of the installed package, and needs nothing but Python.
"""
