from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True, scope="package")
def _few_altered() -> Iterator[None]:
    """Fewer training images are altered on purpose, which takes most of the time of these tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("gmvaluator.audit.near_copies.ALTERED", 12)
        yield
