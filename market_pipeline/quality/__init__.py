"""Where the data is wrong: gaps, clocks, crossed books, precision; the report and its verdict."""
