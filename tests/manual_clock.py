"""A clock that a test advances."""


class ManualUnixClock:
    """Returns Unix seconds; a test assigns `now`."""

    def __init__(self, now: float = 2_000_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now
