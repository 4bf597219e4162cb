"""Backups: what is written once is copied once, what changes is archived each time.

`create.create` makes a state of both, `restore.verify` reads it back, and `restore.restore` makes a
data folder of it.

May import `errors`, `shown`, `config`, `warehouse`, `security`, `audit`, `sources` and `golden`.
"""
