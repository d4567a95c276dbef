"""The page of a report in a browser: offline, at the width of a phone and of a desk, light and dark."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from browser.sample_store import GPU, done, failed, rich_records, spec, store_of
from peftbench.report import write_report
from peftbench.store import Store

pytestmark = pytest.mark.browser

Open = Callable[..., Any]
LONG = "x" * 300

# The contrast, as WCAG 2 defines it, of every element with text of its own against the background it stands on.
CONTRASTS = """
() => {
  const context = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
  const rgba = colour => {
    context.clearRect(0, 0, 1, 1); context.fillStyle = colour; context.fillRect(0, 0, 1, 1);
    return [...context.getImageData(0, 0, 1, 1).data];
  };
  const light = colour => {
    const [r, g, b] = rgba(colour).slice(0, 3).map(c => c / 255)
      .map(c => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ground = node => {
    for (; node; node = node.parentElement) {
      const colour = getComputedStyle(node).backgroundColor;
      if (rgba(colour)[3]) return colour;
    }
    return 'white';
  };
  const own = node => [...node.childNodes].some(child => child.nodeType === 3 && child.textContent.trim());
  return [...document.body.querySelectorAll('*')].filter(own).map(node => {
    const style = getComputedStyle(node);
    const ink = light(node.closest('svg') ? style.fill : style.color), paper = light(ground(node));
    const ratio = (Math.max(ink, paper) + 0.05) / (Math.min(ink, paper) + 0.05);
    return [ratio, node.tagName + ': ' + node.textContent.trim().slice(0, 40)];
  });
}
"""


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """Chromium as the system has it, or as Playwright installed it."""
    api = pytest.importorskip("playwright.sync_api")
    path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    with api.sync_playwright() as playwright:
        if path is None and not Path(playwright.chromium.executable_path).exists():
            pytest.skip("There is no Chromium: apt-get install chromium, or playwright install chromium.")
        browser = playwright.chromium.launch(executable_path=path, chromium_sandbox=False)
        yield browser
        browser.close()


@pytest.fixture
def open_page(chromium: Any) -> Iterator[Open]:
    """Opens a report offline; at the end nothing was asked of a network or complained about."""
    contexts: list[Any] = []
    noise: list[str] = []

    def opened(report: Path, width: int = 1440, scheme: str = "light") -> Any:
        context = chromium.new_context(offline=True, viewport={"width": width, "height": 900}, color_scheme=scheme)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: noise.append(f"console: {message.text}"))
        page.on("pageerror", lambda error: noise.append(f"error: {error}"))
        page.on("dialog", lambda dialog: noise.append(f"dialog: {dialog.message}"))
        page.on(
            "request", lambda request: None if request.url.startswith(("file:", "data:")) else noise.append(request.url)
        )
        page.goto(report.resolve().as_uri())
        return page

    yield opened
    for context in contexts:
        context.close()
    assert noise == []


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two models at two places, some failures, some runs to come, and a name and a message that mean harm."""
    records = rich_records(environments={"Qwen2.5-1.5B-Instruct": GPU})
    hostile = spec(model="<img src=x onerror=alert(1)>", method=f"</table><script>alert(2)</script>{LONG}")
    records += [done(hostile), failed(hostile.model_copy(update={"seed": 2}), f"<script>alert(3)</script>{LONG}")]
    return write_report(store_of(tmp_path_factory.mktemp("store"), records, [spec(method="dora")])).html


@pytest.mark.parametrize("width", [390, 1440])
def test_the_page_is_never_wider_than_the_screen(report: Path, open_page: Open, width: int) -> None:
    page = open_page(report, width)
    page.evaluate("document.querySelectorAll('details').forEach(details => { details.open = true })")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    tables = page.evaluate("[...document.querySelectorAll('.scroll')].map(box => box.scrollWidth > box.clientWidth)")
    assert any(tables)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_all_text_can_be_read(report: Path, open_page: Open, scheme: str) -> None:
    page = open_page(report, scheme=scheme)
    contrasts = page.evaluate(CONTRASTS)
    assert len(contrasts) > 300
    assert [item for item in contrasts if item[0] < 4.5] == []


def test_light_and_dark_differ_in_the_picture_too(report: Path, open_page: Open) -> None:
    seen = {}
    for scheme in ("light", "dark"):
        page = open_page(report, scheme=scheme)
        body = page.evaluate("getComputedStyle(document.body).backgroundColor")
        seen[scheme] = (body, page.evaluate("getComputedStyle(document.querySelector('svg path')).fill"))
    assert seen["light"][0] == seen["light"][1]
    assert seen["dark"][0] == seen["dark"][1]
    assert seen["light"] != seen["dark"]


def test_tables_can_be_heard(report: Path, open_page: Open) -> None:
    page = open_page(report)
    tables = page.evaluate("[...document.querySelectorAll('table')].map(table => [!!table.caption, !!table.tHead])")
    assert len(tables) > 8
    assert all(caption and head for caption, head in tables)
    assert page.locator("th:not([scope])").count() == 0
    assert page.locator("html").get_attribute("lang") == "en"
    levels = page.evaluate("[...document.querySelectorAll('h1, h2, h3')].map(title => +title.tagName[1])")
    assert levels[0] == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))
    labels = page.locator("svg").evaluate_all("all => all.map(one => one.getAttribute('aria-label'))")
    assert labels
    assert all(labels)


def test_the_keyboard_reaches_the_results_and_the_tables(report: Path, open_page: Open) -> None:
    page = open_page(report, 390)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the results"
    assert page.evaluate("document.activeElement.getBoundingClientRect().left") >= 0
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "scroll"
    page.locator("#costs .scroll").first.focus()
    page.keyboard.press("ArrowRight")
    page.wait_for_timeout(400)
    assert page.evaluate("document.activeElement.scrollLeft") > 0


def test_names_stay_in_sight_while_the_numbers_scroll(report: Path, open_page: Open) -> None:
    page = open_page(report, 390)
    place = "document.querySelector('#costs tbody tr:nth-child(2) th').getBoundingClientRect().left"
    before = page.evaluate(place)
    page.evaluate("document.querySelector('#costs .scroll').scrollLeft = 200")
    assert page.evaluate(place) == before


def test_the_names_of_the_contents_lead_somewhere(report: Path, open_page: Open) -> None:
    page = open_page(report)
    targets = page.locator("a[href^='#']").evaluate_all("all => all.map(one => one.getAttribute('href'))")
    assert len(set(targets)) == 8
    assert all(page.locator(target).count() == 1 for target in targets)


def test_paper_shows_what_is_folded_on_the_screen(report: Path, open_page: Open) -> None:
    page = open_page(report)
    page.emulate_media(media="print")
    assert page.locator("#scores details table").first.bounding_box()["height"] > 100
    assert not page.locator("nav").is_visible()


def test_an_empty_store_is_a_page_too(tmp_path: Path, open_page: Open) -> None:
    page = open_page(write_report(Store(tmp_path)).html, 390)
    assert page.locator("h2").inner_text() == "Nothing to show yet"
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
