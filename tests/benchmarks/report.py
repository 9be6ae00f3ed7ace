"""What a benchmark prints: each run, medians, ratios with their targets. Never measures anything."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from statistics import median

# One run of one contestant: figures by label. A contestant cleans up after itself, outside the time that it takes.
Contestant = Callable[[], Mapping[str, float]]


class Report:
    """The figures of one benchmark, printed as they come."""

    def __init__(self, name: str, about: str) -> None:
        self._name = name
        self._runs: defaultdict[str, list[float]] = defaultdict(list)
        # One line for each target, for the end.
        self.verdicts: list[str] = []
        print(f"\n== {name}: {about}", flush=True)

    def note(self, text: str) -> None:
        """Print a remark."""
        print(f"   {text}", flush=True)

    def run(self, number: str, figures: Mapping[str, float], count: bool = True) -> None:
        """Print the figures of one run; those of a warm-up do not count."""
        if count:
            for label, figure in figures.items():
                self._runs[label].append(figure)
        shown = "   ".join(f"{label} {figure:.3f}" for label, figure in figures.items())
        print(f"   {number:>8}   {shown}", flush=True)

    def median(self, label: str) -> float:
        """The median of what ran under a label."""
        return median(self._runs[label])

    def medians(self) -> None:
        """Print all medians."""
        self.run("median", {label: median(figures) for label, figures in self._runs.items()}, count=False)

    def ratio(
        self, above: str, below: str, *, at_least: float | None = None, at_most: float | None = None, title: str = ""
    ) -> None:
        """Print the ratio of two medians, the least and greatest of single runs, and whether the target is reached."""
        pairs = [one / other for one, other in zip(self._runs[above], self._runs[below], strict=True)]
        text = f"{title or f'{above} / {below}'}: {self.median(above) / self.median(below):.2f}"
        if len(pairs) > 1:
            text += f" (single pairs {min(pairs):.2f} to {max(pairs):.2f})"
        self.verdict(text, self.median(above) / self.median(below), at_least=at_least, at_most=at_most)

    def verdict(self, text: str, figure: float, *, at_least: float | None = None, at_most: float | None = None) -> None:
        """Print a figure against its target."""
        if at_least is not None:
            text += f"; to reach: at least {at_least:g}: {'reached' if figure >= at_least else 'MISSED'}"
        if at_most is not None:
            text += f"; to reach: at most {at_most:g}: {'reached' if figure <= at_most else 'MISSED'}"
        self.verdicts.append(f"{self._name}: {text}")
        print(f"   {text}", flush=True)


def interleave(report: Report, contestants: Mapping[str, Contestant], rounds: int, warm_up: bool = True) -> None:
    """Run the contestants in turn, A B C, B C A ...: a machine that drifts, drifts for all."""
    order = list(contestants)
    for number in range(0 if warm_up else 1, rounds + 1):
        figures: dict[str, float] = {}
        for name in order:
            figures.update(contestants[name]())
        labels = sorted(figures, key=lambda label: (_place(label, contestants), label))
        report.run(
            f"run {number}" if number else "warm-up", {label: figures[label] for label in labels}, count=number > 0
        )
        order.append(order.pop(0))
    report.medians()


def _place(label: str, contestants: Mapping[str, Contestant]) -> int:
    return next((n for n, name in enumerate(contestants) if label.startswith(name)), len(contestants))
