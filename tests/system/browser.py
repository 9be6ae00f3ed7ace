"""A real Chromium without a window, driven over its DevTools protocol through a pipe: no port, no library."""

import json
import os
import select
import shutil
import signal
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from eventually import eventually
from programs import die_with_parent

_FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--ignore-certificate-errors",
    "--remote-debugging-pipe",
)
_COMPLAINTS = ("Log.entryAdded", "Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Page.javascriptDialogOpening")
ANSWER_SECONDS = 20.0


class Browser:
    """One page in a browser of its own, with a fresh profile."""

    def __init__(self, profile: Path) -> None:
        name = next(filter(shutil.which, ("chromium", "chromium-browser", "google-chrome")))
        ours_in, theirs_out = os.pipe()
        theirs_in, ours_out = os.pipe()
        die = die_with_parent()

        def inherit() -> None:
            # Chromium reads from 3 and writes to 4; out of the way first, they may be among our own numbers.
            spare = os.dup(theirs_in), os.dup(theirs_out)
            os.dup2(spare[0], 3)
            os.dup2(spare[1], 4)
            if die is not None:
                die()

        self._process = subprocess.Popen(
            [name, *_FLAGS, f"--user-data-dir={profile}", "about:blank"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=(3, 4),
            preexec_fn=inherit,  # noqa: PLW1509 - what it does is safe after a fork
            start_new_session=True,
        )
        os.close(theirs_in)
        os.close(theirs_out)
        self._in, self._out = ours_in, ours_out
        self._read = b""
        self._asked = 0
        self._session = ""
        self._events: list[dict[str, Any]] = []

    def __enter__(self) -> Self:
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait(10)
        os.close(self._in)
        os.close(self._out)

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """One command of the protocol, and its answer."""
        self._asked += 1
        message: dict[str, Any] = {"id": self._asked, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        while True:
            told = self._next()
            if told.get("id") == self._asked:
                assert "error" not in told, (method, told)
                result: dict[str, Any] = told["result"]
                return result
            self._events.append(told)

    def open(self, url: str) -> None:
        self.call("Page.navigate", url=url)
        eventually(lambda: self.js("document.readyState") == "complete" and self.js("location.href") != "about:blank")

    def js(self, expression: str) -> Any:
        """The value of an expression in the page."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, (expression, answer)
        return answer["result"].get("value")

    def text(self, selector: str) -> str:
        """What a reader sees there; empty if there is no such element."""
        return str(self.js(f"document.querySelector({json.dumps(selector)})?.innerText ?? ''"))

    def type(self, selector: str, text: str) -> None:
        """Focus a field and type."""
        self.js(f"document.querySelector({json.dumps(selector)}).focus()")
        self.call("Input.insertText", text=text)

    def press_enter(self) -> None:
        for kind in ("keyDown", "keyUp"):
            self.call(
                "Input.dispatchKeyEvent", type=kind, key="Enter", code="Enter", windowsVirtualKeyCode=13, text="\r"
            )

    def resize(self, width: int, height: int, scheme: str = "light") -> None:
        """The size of the window, and whether its user likes it light or dark."""
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    def complaints(self) -> list[dict[str, Any]]:
        """What the console would show: errors, warnings, refusals of the policy, dialogs."""
        return [event for event in self._events if event.get("method") in _COMPLAINTS]

    def requests(self) -> int:
        """How many requests the page has made."""
        return sum(event.get("method") == "Network.requestWillBeSent" for event in self._events)

    def _next(self) -> dict[str, Any]:
        deadline = time.monotonic() + ANSWER_SECONDS
        while b"\0" not in self._read:
            ready = select.select([self._in], [], [], max(0.0, deadline - time.monotonic()))[0]
            some = os.read(self._in, 1 << 16) if ready else b""
            assert some, "Chromium does not answer"
            self._read += some
        message, _, self._read = self._read.partition(b"\0")
        told: dict[str, Any] = json.loads(message)
        return told
