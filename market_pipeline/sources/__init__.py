"""Where raw rows come from: one module per format, each with its boundary, clock and sequence."""
