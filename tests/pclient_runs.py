"""pclient run in this process, with pipes for its streams."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from cli.main import main


@dataclass(frozen=True)
class Run:
    """How a run of pclient ended."""

    code: int
    out: str
    err: str

    @property
    def objects(self) -> list[dict[str, Any]]:
        """stdout as JSON, line by line."""
        return [json.loads(line) for line in self.out.splitlines()]

    @property
    def error(self) -> dict[str, Any]:
        """The one error."""
        [only] = [each["error"] for each in self.objects if "error" in each]
        assert isinstance(only, dict)
        return only


Pclient = Callable[..., Run]


def run(*words: str, typed: str = "") -> Run:
    """Run pclient with pipes."""
    out, err = io.StringIO(), io.StringIO()
    code = main(words, io.StringIO(typed), out, err)
    return Run(code, out.getvalue(), err.getvalue())
