"""The pipeline's stages as plain functions of a day, in the day's order, without Dagster."""
