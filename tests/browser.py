"""Chromium without a screen, for tests of the live page: found on this machine, and never downloaded from here.

`scripts/browser` installs it where there is none.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

from selenium.webdriver import Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
DRIVERS = ("chromedriver", "/usr/lib/chromium/chromedriver", "/usr/lib/chromium-browser/chromedriver")
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


def program(names: tuple[str, ...]) -> str | None:
    """Return the path of the first of these that is there."""
    return next(filter(None, map(shutil.which, names)), None)


def missing() -> str:
    """Return what is missing, as a sentence; nothing if all is there."""
    if program(BROWSERS) and program(DRIVERS):
        return ""
    return "no Chromium with its driver is here, and scripts/browser could not install Debian's"


@contextmanager
def chromium(width: int = 1280, height: int = 800, *, scale: float = 1) -> Iterator[Chrome]:
    """Yield a browser with a window of that size, in CSS pixels, and a profile of its own."""
    options = ChromeOptions()
    options.binary_location = program(BROWSERS) or ""
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    with tempfile.TemporaryDirectory(prefix="pyrate-browser-", ignore_cleanup_errors=True) as profile:
        sized = (f"--user-data-dir={profile}", f"--window-size={width},{height}", f"--force-device-scale-factor={scale}")
        for argument in (*QUIET, *sized):
            options.add_argument(argument)
        browser = Chrome(options, Service(program(DRIVERS)))
        try:
            browser.execute_cdp_cmd(
                "Emulation.setDeviceMetricsOverride",
                {"width": width, "height": height, "deviceScaleFactor": scale, "mobile": False},
            )
            yield browser
        finally:
            browser.quit()
