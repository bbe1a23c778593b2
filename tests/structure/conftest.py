"""Fixtures of the tests of pages."""

from pages import prepared, trained  # noqa: F401
