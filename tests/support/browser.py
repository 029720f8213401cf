"""A real browser for the tests: headless Chromium, driven through selenium. It loads files only."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

PHONE, DESKTOP, PAPER = 360, 1280, 680  # CSS pixels; paper: A4 between margins of 15 mm

# What sticks out of the page, or out of what does not scroll; a box that scrolls may hold more than it shows.
OVERFLOWING = """
const scrolls = e => e && (['auto', 'scroll'].includes(getComputedStyle(e).overflowX) || scrolls(e.parentElement));
const hidden = e => e.closest('.heard, .skip');
return [...document.querySelectorAll('body *')]
  .filter(e => e.getBoundingClientRect().right > innerWidth + 1 && !scrolls(e.parentElement) && !hidden(e))
  .map(e => e.tagName + ' ' + e.textContent.slice(0, 60));
"""


def browser_or_skip() -> tuple[str, str]:
    """Chromium and its driver."""
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not chromium or not driver:
        pytest.skip("no chromium and chromedriver here: `make browser` installs them on Debian as root")
    return chromium, driver


@contextmanager
def open_browser() -> Iterator[Any]:
    """A selenium driver whose console is kept."""
    chromium, driver = browser_or_skip()
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    browser = webdriver.Chrome(options=options, service=Service(driver))
    try:
        yield browser
    finally:
        browser.quit()


def show(browser: Any, page: Path, width: int, *, dark: bool = False, paper: bool = False, script: bool = True) -> None:
    """Open the page at that width."""
    features = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print" if paper else "", "features": features})
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": not script})
    # Not "mobile": there the window grows with what sticks out, and nothing ever does.
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    browser.get(page.as_uri())


def overflowing(browser: Any) -> list[str]:
    """The elements that stick out."""
    wide = browser.execute_script("return document.documentElement.scrollWidth > innerWidth ? ['page'] : []")
    return [*wide, *browser.execute_script(OVERFLOWING)]
