"""The columns of the validation report as typed groups, one for each measurement; no numba."""
