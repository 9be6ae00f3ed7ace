"""Prints the results of a benchmark: runs, medians, and ratios with their targets. Measures nothing itself."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from statistics import median

# Makes one run and returns its figures by label. It cleans up afterwards, outside the measured time.
Contestant = Callable[[], Mapping[str, float]]


class Report:
    """The figures of one benchmark, printed at once."""

    def __init__(self, name: str, about: str) -> None:
        self._name = name
        self._runs: defaultdict[str, list[float]] = defaultdict(list)
        # One line for each target, for the summary.
        self.verdicts: list[str] = []
        print(f"\n== {name}: {about}", flush=True)

    def note(self, text: str) -> None:
        """Print a remark."""
        print(f"   {text}", flush=True)

    def run(self, number: str, figures: Mapping[str, float], count: bool = True) -> None:
        """Print the figures of one run, and record them unless `count` is false, as for a warm-up."""
        if count:
            for label, figure in figures.items():
                self._runs[label].append(figure)
        shown = "   ".join(f"{label} {figure:.3f}" for label, figure in figures.items())
        print(f"   {number:>8}   {shown}", flush=True)

    def median(self, label: str) -> float:
        """Return the median of the recorded figures of a label."""
        return median(self._runs[label])

    def medians(self) -> None:
        """Print all medians."""
        self.run("median", {label: median(figures) for label, figures in self._runs.items()}, count=False)

    def ratio(
        self, above: str, below: str, *, at_least: float | None = None, at_most: float | None = None, title: str = ""
    ) -> None:
        """Print the ratio of two medians, the range of single pairs, and whether the target is met."""
        pairs = [one / other for one, other in zip(self._runs[above], self._runs[below], strict=True)]
        text = f"{title or f'{above} / {below}'}: {self.median(above) / self.median(below):.2f}"
        if len(pairs) > 1:
            text += f" (single pairs {min(pairs):.2f} to {max(pairs):.2f})"
        self.verdict(text, self.median(above) / self.median(below), at_least=at_least, at_most=at_most)

    def verdict(self, text: str, figure: float, *, at_least: float | None = None, at_most: float | None = None) -> None:
        """Print `text`, and whether `figure` meets its target."""
        if at_least is not None:
            text += f"; target: at least {at_least:g}: {'met' if figure >= at_least else 'MISSED'}"
        if at_most is not None:
            text += f"; target: at most {at_most:g}: {'met' if figure <= at_most else 'MISSED'}"
        self.verdicts.append(f"{self._name}: {text}")
        print(f"   {text}", flush=True)


def interleave(report: Report, contestants: Mapping[str, Contestant], rounds: int, warm_up: bool = True) -> None:
    """Run the contestants alternately (A B C, B C A, ...), so that a drifting machine affects all equally."""
    order = list(contestants)
    for number in range(0 if warm_up else 1, rounds + 1):
        figures: dict[str, float] = {}
        for name in order:
            figures.update(contestants[name]())
        labels = sorted(figures, key=lambda label: (_position(label, contestants), label))
        report.run(
            f"run {number}" if number else "warm-up", {label: figures[label] for label in labels}, count=number > 0
        )
        order.append(order.pop(0))
    report.medians()


def _position(label: str, contestants: Mapping[str, Contestant]) -> int:
    return next((n for n, name in enumerate(contestants) if label.startswith(name)), len(contestants))
