"""From what was written to what is read: every name looked up, every value checked, every failure here."""

from fastgw.plan.compile.build import ConfigErrors, Sources, build, check_stored, watched

__all__ = ["ConfigErrors", "Sources", "build", "check_stored", "watched"]
