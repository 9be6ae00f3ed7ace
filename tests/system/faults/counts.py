"""How often a row's fault is done: a quick count in every run of the suite, a long one with `-m long`."""

import pytest


def quick_and_long(argument: str, quick: int, long: int, seconds: int = 3600) -> pytest.MarkDecorator:
    """Parametrise a test by its count; the long one may take `seconds`."""
    return pytest.mark.parametrize(
        argument, [quick, pytest.param(long, marks=[pytest.mark.long, pytest.mark.timeout(seconds)])]
    )
