"""How often a test injects its fault: a few times in every run, often with `-m long`."""

import pytest


def quick_and_long(argument: str, quick: int, long: int, seconds: int = 3600) -> pytest.MarkDecorator:
    """Parametrise `argument` of a test with a quick and a long count; the long one has a timeout of `seconds`."""
    return pytest.mark.parametrize(
        argument, [quick, pytest.param(long, marks=[pytest.mark.long, pytest.mark.timeout(seconds)])]
    )
