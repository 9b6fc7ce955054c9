"""Settings of the property tests: compiling takes longer than hypothesis' deadline."""

from hypothesis import settings

settings.register_profile("no_deadline", deadline=None)
settings.load_profile("no_deadline")
