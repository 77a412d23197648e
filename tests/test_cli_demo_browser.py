"""The live page in a browser: what a visitor does, and what the page then says and shows."""

from __future__ import annotations

import runpy
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from selenium.webdriver import ActionChains, Chrome, Keys
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.wait import WebDriverWait

from pyrate_limiter.cli.demo.settings import Settings

from . import browser
from .live_page import LivePage, served

PHONE = {"width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": True}
SCREENSHOT = Path(__file__).parents[1] / "docs" / "screenshot.py"
COUNTS = ("admitted", "waited", "refused", "waiting")


class Visitor:
    """Who looks at the page, and does something.

    Attributes:
        chrome: what they look with.
        page: what they look at.
    """

    def __init__(self, chrome: Chrome, page: LivePage) -> None:
        self.chrome, self.page = chrome, page
        self._before = dict.fromkeys(COUNTS, 0)

    def find(self, selector: str) -> WebElement:
        return self.chrome.find_element(By.CSS_SELECTOR, selector)

    def reads(self, name: str) -> str:
        return str(self.find(f"#{name}").text)

    def counts(self) -> dict[str, int]:
        """Return what the counters read, less what they read at the start."""
        return {name: int(self.reads(name).replace(",", "")) - self._before[name] for name in COUNTS}

    def start(self) -> None:
        self._before = self.counts()

    def until(self, condition: Callable[[], Any]) -> None:
        WebDriverWait(self.chrome, 30, poll_frequency=0.02).until(lambda _: condition())

    def choose(self, name: str, value: object) -> None:
        self.find(f"[name={name}][value='{value}']").click()

    def media(self, **features: str) -> None:
        found = [{"name": name.replace("_", "-"), "value": value} for name, value in features.items()]
        self.chrome.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": found})

    @contextmanager
    def screen(self, metrics: dict[str, Any]) -> Iterator[None]:
        """Look at another screen for a while."""
        self._set_screen(metrics)
        try:
            yield
        finally:
            self._set_screen(browser.metrics(1280, 800))

    def _set_screen(self, metrics: dict[str, Any]) -> None:
        self.chrome.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        self.until(lambda: self.chrome.execute_script("return innerWidth") == metrics["width"])

    def picture(self) -> str:
        return str(self.chrome.execute_script("return canvas.toDataURL()"))


@pytest.fixture(scope="module")
def chrome() -> Iterator[Chrome]:
    if browser.missing():
        pytest.skip(browser.missing())
    with browser.chromium() as chrome:
        yield chrome


@pytest.fixture(scope="module")
def page() -> Iterator[LivePage]:
    with served("--port", "0") as page:
        yield page


@pytest.fixture
def visitor(chrome: Chrome, page: LivePage) -> Iterator[Visitor]:
    """A visitor who opens the page anew, with a full budget; what the page complains of fails the test."""
    page.post("settings", algorithm="fixed", traffic=0, limit=50)  # which lets go whoever still waits
    page.post("settings", **Settings()._asdict())
    visitor = Visitor(chrome, page)
    visitor.media()
    chrome.get(page.address)
    visitor.until(lambda: visitor.reads("link") == "connected")
    visitor.until(lambda: (visitor.reads("bound"), visitor.reads("waiting")) == ("14", "0"))
    visitor.start()
    yield visitor
    chrome.get("about:blank")
    assert [entry["message"] for entry in chrome.get_log("browser")] == []


def test_a_click_is_one_request(visitor: Visitor) -> None:
    visitor.find("#fire").click()
    visitor.until(lambda: visitor.counts() == {"admitted": 1, "waited": 0, "refused": 0, "waiting": 0})
    fields = dict(line.split(": ") for line in visitor.reads("response").splitlines()[1:])
    assert visitor.reads("response").startswith("200 OK\n")
    assert (fields["RateLimit-Policy"], fields["RateLimit"]) == ('"demo";q=5;w=1', '"demo";r=9;t=1')
    assert visitor.reads("most") == "1"


def test_who_comes_too_fast_waits_or_is_refused_and_is_told_when_to_come_again(visitor: Visitor) -> None:
    visitor.page.post("settings", wait=1)
    visitor.until(lambda: visitor.find("output[for=wait]").text == "held up to 1 s")
    visitor.find("#volley").click()
    visitor.until(lambda: visitor.counts()["waiting"] > 0)
    visitor.until(lambda: sum(visitor.counts().values()) == 20 and not visitor.counts()["waiting"])
    counts = visitor.counts()
    assert (counts["admitted"], counts["waited"] + counts["refused"]) == (10, 10)
    assert counts["waited"] in {4, 5}
    assert 10 < int(visitor.reads("most")) <= int(visitor.reads("bound"))
    visitor.page.post("settings", wait=0)
    visitor.until(lambda: visitor.find("output[for=wait]").text == "refused at once")
    before = visitor.chrome.execute_script("return chart.getBoundingClientRect().height")
    visitor.find("#volley").click()
    visitor.until(lambda: visitor.reads("response").startswith("429 Too Many Requests"))
    assert visitor.chrome.execute_script("return chart.getBoundingClientRect().height") == before
    assert "\nRetry-After: 1\n" in visitor.reads("response")
    assert '\nRateLimit: "demo";r=0;t=1\n' in visitor.reads("response")


def test_a_slider_that_is_moved_sets_the_limit(visitor: Visitor) -> None:
    slider = visitor.find("#limit")
    assert slider.get_attribute("aria-valuetext") == "5 in a second"
    slider.send_keys(Keys.ARROW_RIGHT, Keys.ARROW_RIGHT)
    visitor.until(lambda: visitor.reads("bound") == "16")
    assert visitor.find("output[for=limit]").text == "7 in a second"
    ActionChains(visitor.chrome).click_and_hold(slider).move_by_offset(60, 0).release().perform()
    visitor.until(lambda: int(visitor.reads("bound")) > 30)
    burst = visitor.find("#burst")
    burst.send_keys(Keys.HOME)
    visitor.until(lambda: visitor.find("output[for=burst]").text == "1 at once")
    visitor.until(lambda: visitor.reads("bound") == visitor.find("#limit").get_attribute("value"))


def test_an_algorithm_that_is_chosen_decides(visitor: Visitor) -> None:
    visitor.page.post("settings", wait=0)
    visitor.choose("algorithm", "fixed")
    visitor.until(lambda: visitor.reads("bound") == "10")
    assert visitor.reads("about").startswith("Counts from zero at each boundary")
    assert not visitor.find("#burst").is_enabled()
    visitor.choose("seconds", 10)
    visitor.until(lambda: visitor.reads("most-name") == "Most in any 10 s")
    visitor.find("#volley").click()
    visitor.until(lambda: sum(visitor.counts().values()) == 20)
    assert visitor.counts()["admitted"] in {5, 10}  # ten around a boundary
    visitor.choose("algorithm", "gcra")
    visitor.until(lambda: visitor.find("#burst").is_enabled())


def test_a_button_that_is_held_keeps_sending(visitor: Visitor) -> None:
    fire = visitor.find("#fire")
    ActionChains(visitor.chrome).click_and_hold(fire).perform()
    visitor.until(lambda: sum(visitor.counts().values()) >= 4)
    ActionChains(visitor.chrome).release().perform()
    assert visitor.chrome.execute_script("return held") is None
    ActionChains(visitor.chrome).key_down(Keys.SPACE).perform()
    came = sum(visitor.counts().values())
    visitor.until(lambda: sum(visitor.counts().values()) >= came + 3)
    ActionChains(visitor.chrome).key_up(Keys.SPACE).perform()
    assert visitor.chrome.execute_script("return held") is None


def test_traffic_flows_and_is_drawn_and_read_out(visitor: Visitor) -> None:
    visitor.find("#traffic").send_keys(Keys.END)
    visitor.until(lambda: visitor.find("output[for=traffic]").text == "about 50 a second")
    visitor.until(lambda: visitor.counts()["refused"] > 5)
    before = visitor.picture()
    visitor.until(lambda: visitor.picture() != before)
    assert visitor.chrome.execute_script("return marks.length + lines.size") > 10
    visitor.chrome.execute_script("speak()")
    assert " admitted at once, " in str(visitor.find("#spoken").get_attribute("textContent"))
    assert visitor.find("#spoken").get_attribute("aria-live") == "polite"


def test_it_says_how_to_begin_and_when_the_server_is_gone(chrome: Chrome) -> None:
    with served("--port", "0") as page:
        visitor = Visitor(chrome, page)
        chrome.get(page.address)
        visitor.until(lambda: visitor.reads("link") == "connected")
        assert visitor.find("#hint").is_displayed()
        visitor.find("#fire").click()
        visitor.until(lambda: visitor.counts()["admitted"] == 1)
        assert not visitor.find("#hint").is_displayed()
        page.process.terminate()
        visitor.until(lambda: visitor.reads("link") == "not connected; trying again")
    chrome.get("about:blank")
    chrome.get_log("browser")  # in which it tells of the connection that it lost


def test_a_phone_shows_all_of_it_without_scrolling_sideways(visitor: Visitor) -> None:
    with visitor.screen(PHONE):
        assert visitor.chrome.execute_script("return document.documentElement.scrollWidth") <= 390
        visitor.find("#fire").click()
        visitor.until(lambda: visitor.counts()["admitted"] == 1)


def test_at_1280_by_800_all_of_it_is_on_the_screen(visitor: Visitor) -> None:
    size = visitor.chrome.execute_script("let e = document.documentElement; return [e.scrollWidth, e.scrollHeight]")
    assert size == [1280, 800]


def test_whoever_listens_hears_what_each_control_is(visitor: Visitor) -> None:
    nodes = visitor.chrome.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
    heard = [(node["role"]["value"], node["name"]["value"]) for node in nodes if node.get("name")]
    assert all(name for role, name in heard if role in {"slider", "radio", "button", "image", "group"})
    assert {name for role, name in heard if role == "slider"} == {"Rate", "Burst", "Longest wait", "Traffic by itself"}
    assert {name for role, name in heard if role == "button"} == {"Send a request", "Send 20"}
    assert sum(role == "radio" for role, _ in heard) == 5 + 4
    assert sum(role == "heading" for role, _ in heard) == 3


def test_only_who_waited_leaves_a_line(visitor: Visitor) -> None:
    happenings = [(1, "admitted", 50), (2, "refused", 50), (3, "waited", 5), (4, "left", 5), (5, "refused", 2000)]
    visitor.chrome.execute_script("forget()")
    for request, kind, after in happenings:
        visitor.chrome.execute_script("happened(arguments[0], 'arrived', 0)", request)
        visitor.chrome.execute_script("happened(...arguments)", request, kind, after)
    assert visitor.chrome.execute_script("return [...lines.keys()]") == [3, 4, 5]
    assert visitor.chrome.execute_script("return marks.map((mark) => mark.kind)") == [
        "admitted",
        "refused",
        "waited",
        "refused",
    ]
    assert visitor.chrome.execute_script("return rows.size") == 0


@pytest.mark.parametrize("width", [950, 1151])
def test_nothing_lies_upon_the_other(visitor: Visitor, width: int) -> None:
    with visitor.screen(browser.metrics(width, 900)):
        ends = "return [counts, chart, wire].map((card) => card.getBoundingClientRect().right)"
        start = visitor.chrome.execute_script("return side.getBoundingClientRect().left")
        assert all(end < start for end in visitor.chrome.execute_script(ends))
        inside = "return [...counts.querySelectorAll('dt, dd')].every((one) => one.scrollWidth <= one.clientWidth)"
        assert visitor.chrome.execute_script(inside)


def test_what_is_written_can_be_read_in_light_and_dark(visitor: Visitor) -> None:
    texts = [("ink", "card"), ("soft", "card"), ("soft", "paper"), ("card", "admitted"), ("on-key", "key")]
    numbers = [("admitted", "card"), ("refused", "card"), ("budget", "card")]
    for scheme in ("light", "dark"):
        visitor.media(prefers_color_scheme=scheme)
        for ink, ground in texts + numbers:
            assert contrast(visitor, ink, ground) >= 4.5, (scheme, ink, ground)
        assert contrast(visitor, "waited", "card") >= 3  # a mark, not a text


def contrast(visitor: Visitor, *names: str) -> float:
    """Return the contrast of two colours of the page, by WCAG 2."""
    light, dark = sorted((luminance(visitor, name) for name in names), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def luminance(visitor: Visitor, name: str) -> float:
    script = "return getComputedStyle(document.documentElement).getPropertyValue(arguments[0]).trim()"
    color = visitor.chrome.execute_script(script, f"--{name}")
    parts = [int(color[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def test_whoever_wants_less_motion_gets_less(visitor: Visitor) -> None:
    visitor.media(prefers_reduced_motion="reduce")
    visitor.find("#fire").click()
    visitor.until(lambda: visitor.counts()["admitted"] == 1)
    drawn = visitor.chrome.execute_async_script(
        "let done = arguments[0], times = [], draws = draw;"
        "draw = () => { times.push(performance.now()); draws(); if (times.length === 2) done(times); }"
    )
    assert drawn[1] - drawn[0] > 400  # half a second; a picture of every frame would come after a sixtieth


def test_the_picture_in_the_documentation_can_be_taken_anew(visitor: Visitor, tmp_path: Path) -> None:
    shoot = runpy.run_path(str(SCREENSHOT))["shoot"]
    shoot(visitor.chrome, visitor.page, tmp_path / "live.png", speed=20)
    for picture in (tmp_path / "live.png", SCREENSHOT.parent / "images" / "live.png"):
        start = picture.read_bytes()[:24]
        assert start.startswith(b"\x89PNG")
        width, height = struct.unpack(">II", start[16:])
        assert width * 800 == height * 1280
        assert picture.stat().st_size <= 200_000
