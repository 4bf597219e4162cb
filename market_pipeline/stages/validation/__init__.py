"""The validation stage: a rebuilt day measured, its findings located, its verdict given."""
