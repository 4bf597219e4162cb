"""The rebuild stage: raw files in; books, checkpoints, intervals and a record out."""
