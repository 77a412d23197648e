"""Chromium without a screen, for tests of the live page: found on this machine, and never downloaded from here.

`scripts/browser` installs it where there is none.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from selenium.webdriver import Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
DRIVER = "chromedriver"
QUIET = (
    "--headless",
    "--no-sandbox",  # which root cannot have
    "--disable-gpu",
    "--disable-dev-shm-usage",  # small in containers
    "--disable-quic",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-extensions",
    "--disable-sync",
    "--no-first-run",
    "--no-proxy-server",
    "--hide-scrollbars",
)


def program(*names: str) -> str | None:
    """Return the path of the first of these that is there."""
    return next(filter(None, map(shutil.which, names)), None)


def missing() -> str:
    """Return what is missing, as a sentence; nothing if all is there."""
    missing = [name for name, found in (("Chromium", program(*BROWSERS)), (DRIVER, program(DRIVER))) if not found]
    return f"there is no {' and no '.join(missing)}: scripts/browser installs Debian's" if missing else ""


def metrics(width: int, height: int, *, scale: float = 1) -> dict[str, Any]:
    """Return what the browser calls a screen of that size, in CSS pixels."""
    return {"width": width, "height": height, "deviceScaleFactor": scale, "mobile": False}


@contextmanager
def chromium(width: int = 1280, height: int = 800, *, scale: float = 1) -> Iterator[Chrome]:
    """Yield a browser with a screen of that size and a profile of its own."""
    options = ChromeOptions()
    options.binary_location = program(*BROWSERS) or ""
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    with tempfile.TemporaryDirectory(prefix="pyrate-browser-", ignore_cleanup_errors=True) as profile:
        for argument in (*QUIET, f"--user-data-dir={profile}"):
            options.add_argument(argument)
        browser = Chrome(options, Service(program(DRIVER)))
        try:
            browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics(width, height, scale=scale))
            yield browser
        finally:
            browser.quit()
