"""Where secrets come from: each has `read(settings)`, and `config.providers` loads it by name.

An error names the provider, the setting that is to be changed and what is wrong, and no secret.
"""
