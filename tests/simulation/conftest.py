"""The vault that every run starts from."""

from tests.engine.conftest import template

__all__ = ["template"]
