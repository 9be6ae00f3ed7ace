"""Headless Chromium, driven by Selenium: for the tests of the dashboard."""

import base64
import json
import os
import shutil
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from ports import reserve_port
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
)
# urllib3, which Selenium talks to chromedriver with, would use a proxy of the environment even for this machine.
_NO_PROXY = "localhost,127.0.0.1"


class Browser:
    """One window of a Chromium with a fresh profile. A context manager.

    An open dialog makes the next call raise, so a test need not look for one.
    """

    def __init__(self, profile: Path) -> None:
        options = webdriver.ChromeOptions()
        options.binary_location = shutil.which("chromium") or ""
        for flag in (*_FLAGS, f"--user-data-dir={profile}"):
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        service = webdriver.ChromeService(
            executable_path=shutil.which("chromedriver"),
            port=reserve_port(),
            env={**os.environ, "no_proxy": _NO_PROXY},
            popen_kw={"preexec_fn": die_with_parent(), "start_new_session": True},
        )
        os.environ["no_proxy"] = _NO_PROXY
        self._driver = webdriver.Chrome(options, service)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._driver.quit()

    def open(self, address: str) -> None:
        """Load a page and wait until it is complete."""
        self._driver.get(address)

    def js(self, expression: str) -> Any:
        """Return the value of a JavaScript expression in the page."""
        return self._driver.execute_script(f"return {expression}")

    def text(self, selector: str) -> str:
        """Return the visible text of the first element that matches; empty if there is none."""
        return str(self.js(f"document.querySelector({json.dumps(selector)})?.innerText ?? ''"))

    def type(self, selector: str, text: str) -> None:
        """Type into a field, after what it contains already."""
        self._driver.find_element(By.CSS_SELECTOR, selector).send_keys(text)

    def press_enter(self, selector: str) -> None:
        """Press Enter in a field."""
        self.type(selector, Keys.ENTER)

    def click(self, selector: str) -> None:
        """Click on the first element that matches."""
        self._driver.find_element(By.CSS_SELECTOR, selector).click()

    def resize(self, width: int, height: int, scheme: str = "light") -> None:
        """Set the size of the page in CSS pixels, and whether its user prefers `light` or `dark`."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self._driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
        self._driver.execute_cdp_cmd("Emulation.setEmulatedMedia", media)

    def disable_scripts(self) -> None:
        """Run no script of any page that is loaded from now on."""
        self._driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})

    def screenshot(self, path: Path) -> None:
        """Write a PNG of the complete page, also of what is below the window."""
        picture = self._driver.execute_cdp_cmd("Page.captureScreenshot", {"captureBeyondViewport": True})
        path.write_bytes(base64.b64decode(picture["data"]))

    def console(self) -> list[dict[str, Any]]:
        """Return the console's entries since the last call: errors, warnings, violations of the content policy."""
        entries: list[dict[str, Any]] = self._driver.get_log("browser")  # type: ignore[no-untyped-call]
        return entries

    def wait(self, seconds: float) -> None:
        """Let time pass for the page."""
        self._driver.execute_async_script("setTimeout(arguments[1], arguments[0])", seconds * 1000)

    def requests(self) -> int:
        """Return the number of requests that the page has made since it was loaded."""
        return int(self.js("performance.getEntriesByType('resource').length"))
