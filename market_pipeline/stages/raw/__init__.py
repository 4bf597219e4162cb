"""The raw stage: days are fetched or converted, registered byte for byte, and profiled."""
