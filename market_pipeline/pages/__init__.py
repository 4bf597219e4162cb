"""Pages to read in a browser, each a file that needs nothing else."""
