"""Every run of the tests is the same run: property tests draw from a seed that follows from their names."""

from collections.abc import Callable, Iterator

import pytest
import structlog
from hypothesis import HealthCheck, settings

# A busy machine draws slowly, which says nothing about the code.
settings.register_profile(
    "farcast", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("farcast")


@pytest.fixture
def tell(capsys: pytest.CaptureFixture[str]) -> Callable[[str], None]:
    """Prints a figure that was measured, for whoever runs the tests to see."""

    def tell(line: str) -> None:
        with capsys.disabled():
            print(f"\n{line}", end="", flush=True)

    return tell


@pytest.fixture(autouse=True)
def logs_as_they_were() -> Iterator[None]:
    """A command called in this process logs to the standard error of its own test, which closes after it."""
    before = structlog.get_config()
    yield
    structlog.configure(**before)
