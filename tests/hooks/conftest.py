"""What every test of the hooks leaves as it found it."""

from collections.abc import Iterator

import pytest
from mmengine.registry import DefaultScope


@pytest.fixture(autouse=True)
def _default_scope_as_before() -> Iterator[None]:
    """A Runner makes a scope of its own the current one, and leaves it so."""
    before = DefaultScope._instance_dict.copy()
    yield
    DefaultScope._instance_dict.clear()
    DefaultScope._instance_dict.update(before)
