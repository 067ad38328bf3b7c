"""Hypothesis for all unit tests: no deadline, since a busy machine is not a failure, and no files."""

from hypothesis import settings

settings.register_profile("hl", deadline=None, database=None)
settings.load_profile("hl")
