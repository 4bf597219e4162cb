"""The pipeline's stages as plain functions of one instrument and day, without Dagster."""
