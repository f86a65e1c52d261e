"""Options of tests/conftest.py, so that ``pytest projects/NAME`` skips slow tests and knows --runslow."""

from tests.conftest import pytest_addoption, pytest_collection_modifyitems, pytest_configure

__all__ = ["pytest_addoption", "pytest_collection_modifyitems", "pytest_configure"]
