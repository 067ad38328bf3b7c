"""Thin Dagster shells over hl_platform.pipeline."""
