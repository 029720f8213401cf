"""The report in a real browser: nothing overflows, nothing is fetched, everything can be reached and read."""

import json
import shutil
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from raycifar.analysis.report.report import write_report
from raycifar.analysis.results import read_results
from raycifar.data.cifar10 import fetch_cifar10
from tests.support.browser import DESKTOP, PAPER, PHONE, browser_or_skip, open_browser, overflowing, show
from tests.support.paths import QUICK
from tests.support.sweep_folders import add_predictions, write_failure, write_sweep

pytestmark = [pytest.mark.slow, pytest.mark.assets]
LONG = "transfer-with-a-name-that-is-about-as-long-as-a-name-may-be"
WIDTHS = {"phone": (PHONE, False), "desktop": (DESKTOP, False), "print": (PAPER, True)}


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with open_browser() as browser:
        yield browser


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A real sweep's report, and reports on synthetic ones that are hard to lay out."""
    browser_or_skip()
    fetch_cifar10()
    folder = tmp_path_factory.mktemp("pages")
    write_report(read_results(QUICK), folder / "real")
    many = {f"arm-{i}": (1, 1) for i in range(9)} | {LONG: (2, 1)}
    hard = write_sweep(folder / "hard", many, data={"test_images": 160})
    add_predictions(hard)
    write_failure(hard, "arm-3", "boom " + "x" * 400)
    write_report(read_results(hard.path), folder / "hard-report")
    empty = write_sweep(folder / "empty", {"transfer": (1, 1)})
    shutil.rmtree(empty.trial("transfer").path)
    write_report(read_results(empty.path), folder / "empty-report")
    return {name.split("-")[0]: folder / name / "report.html" for name in ("real", "hard-report", "empty-report")}


@pytest.mark.parametrize("page", ["real", "hard", "empty"])
@pytest.mark.parametrize("medium", WIDTHS)
def test_nothing_overflows(browser: Any, pages: dict[str, Path], page: str, medium: str) -> None:
    width, paper = WIDTHS[medium]
    show(browser, pages[page], width, paper=paper)
    assert overflowing(browser) == []


def test_there_is_no_script_error_and_nothing_is_fetched(browser: Any, pages: dict[str, Path]) -> None:
    browser.get_log("performance")
    show(browser, pages["real"], DESKTOP)
    assert browser.get_log("browser") == []
    messages = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    sent = [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]
    assert {url.partition(":")[0] for url in sent} == {"file", "data"}


def test_every_picture_has_loaded_and_is_described(browser: Any, pages: dict[str, Path]) -> None:
    show(browser, pages["real"], DESKTOP)
    seen = browser.execute_script("return [...document.images].map(i => [i.complete && i.naturalWidth > 100, i.alt])")
    assert len(seen) == 25
    assert all(loaded and len(alt) > 20 for loaded, alt in seen)


def test_the_actual_test_images_are_shown(browser: Any, pages: dict[str, Path]) -> None:
    show(browser, pages["real"], DESKTOP)
    alts = browser.execute_script("return [...document.querySelectorAll('.photographs img')].map(i => i.alt)")
    assert [alt.partition(":")[0] for alt in alts] == [
        "Test images that transfer gets wrong",
        "Test images that scratch gets wrong",
        "Test images that every trial of transfer gets right and every trial of scratch wrong",
        "Test images that every trial of scratch gets right and every trial of transfer wrong",
    ]


def test_without_javascript_all_of_it_is_there(browser: Any, pages: dict[str, Path]) -> None:
    show(browser, pages["real"], DESKTOP)
    text = browser.find_element("tag name", "body").text
    show(browser, pages["real"], DESKTOP, script=False)
    without = browser.find_element("tag name", "body").text
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
    assert without == text
    assert "Paired tests on the same images" in text


def test_the_keyboard_reaches_the_content_first_then_every_link_and_scrolling_box(
    browser: Any, pages: dict[str, Path]
) -> None:
    from selenium.webdriver.common.keys import Keys

    show(browser, pages["real"], PHONE)
    reached = []
    for _ in range(3):
        browser.switch_to.active_element.send_keys(Keys.TAB)
        reached.append(browser.execute_script("return document.activeElement.getAttribute('href')"))
    assert reached == ["#main", "#trials", "#averages"]
    unreachable = browser.execute_script(
        "return [...document.querySelectorAll('body *')].filter(e => e.scrollWidth > e.clientWidth + 1 "
        "&& getComputedStyle(e).overflowX == 'auto' && e.tabIndex < 0).map(e => e.outerHTML.slice(0, 80))"
    )
    assert unreachable == []


def test_a_screen_reader_finds_headings_in_order_and_a_name_for_every_table(
    browser: Any, pages: dict[str, Path]
) -> None:
    show(browser, pages["real"], DESKTOP)
    levels = browser.execute_script("return [...document.querySelectorAll('h1,h2,h3')].map(h => +h.tagName[1])")
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))
    assert browser.execute_script("return [...document.querySelectorAll('table')].every(t => t.caption)")
    assert browser.execute_script("return [...document.querySelectorAll('th')].every(t => t.scope)")
    targets = "return [...document.querySelectorAll('nav a')].every(a => document.querySelector(a.hash))"
    assert browser.execute_script(targets)


CONTRAST = """
const parse = c => c.match(/[\\d.]+/g).map(Number);
const light = c => parse(c).slice(0, 3).map(v => v / 255)
  .map(v => v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4)
  .reduce((sum, v, i) => sum + v * [.2126, .7152, .0722][i], 0);
const paper = e => { const c = getComputedStyle(e).backgroundColor;
  return parse(c)[3] === 0 ? paper(e.parentElement) : c; };
return [...document.querySelectorAll('h1,h2,p,li,a,td,th,figcaption,summary')].filter(e => e.innerText?.trim())
  .map(e => [light(getComputedStyle(e).color), light(paper(e)), e])
  .map(([a, b, e]) => [(Math.max(a, b) + .05) / (Math.min(a, b) + .05), e.outerHTML.slice(0, 60)])
  .filter(([ratio]) => ratio < 4.5);
"""


@pytest.mark.parametrize("dark", [False, True])
def test_all_text_stands_out_from_its_paper_in_light_and_dark(browser: Any, pages: dict[str, Path], dark: bool) -> None:
    show(browser, pages["hard"], DESKTOP, dark=dark)
    background = browser.execute_script("return getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, background[4:-1].split(","))) < 384) == dark
    assert browser.execute_script(CONTRAST) == []


def test_figures_turn_dark_and_photographs_do_not(browser: Any, pages: dict[str, Path]) -> None:
    filters = "return [...document.images].map(i => [getComputedStyle(i).filter, i.parentElement.className])"
    show(browser, pages["real"], DESKTOP, dark=True)
    assert all(("invert" in look) != ("photographs" in kind) for look, kind in browser.execute_script(filters))
    show(browser, pages["real"], PAPER, dark=True, paper=True)
    assert {look for look, _ in browser.execute_script(filters)} == {"none"}
