"""Take the picture of the live page: `scripts/screenshot` writes it into docs/images.

It shows a real server in a real browser, so it is another one each time. A test takes one, and compares nothing.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "src")]

from selenium.webdriver import Chrome  # noqa: E402
from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.support.wait import WebDriverWait  # noqa: E402
from tests.browser import chromium, missing  # noqa: E402
from tests.live_page import LivePage, served  # noqa: E402

PICTURE = ROOT / "docs" / "images" / "live.png"
STORY = ((8.0, 0), (8.5, 20), (1.2, 12))
"""How many seconds pass, and how many requests are then fired at once; the traffic that flows meanwhile is calmer."""


def shoot(chrome: Chrome, page: LivePage, picture: Path, *, speed: float = 1) -> None:
    """Let the story happen, so many times as fast, and take the picture."""
    chrome.get(page.address)
    WebDriverWait(chrome, 10).until(lambda _: chrome.find_element(By.ID, "link").text == "connected")
    page.post("settings", limit=5, burst=10, wait=2, traffic=4)
    for seconds, count in STORY:
        if count:
            page.post("fire", count=count)
        time.sleep(seconds / speed)
    chrome.save_screenshot(str(picture))


def main() -> None:
    """Take the picture, with a server and a browser of its own."""
    if missing():
        sys.exit(missing())
    with chromium(1280, 800, scale=1.25) as chrome, served() as page:
        shoot(chrome, page, Path(sys.argv[1]) if len(sys.argv) > 1 else PICTURE)


if __name__ == "__main__":
    main()
