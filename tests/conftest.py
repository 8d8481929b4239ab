"""Every run of the tests is the same run: property tests draw from a seed that follows from their names."""

from hypothesis import settings

settings.register_profile("farcast", derandomize=True, deadline=None)
settings.load_profile("farcast")
