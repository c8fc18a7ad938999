"""The page in a real Chromium: what each state shows, what a click does, dark, on a phone, and readable."""

import json
import math
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import numpy as np
import pytest
from backsight_model.drift import Inputs
from backsight_model.live.intervals import Interval
from backsight_model.live.rules import Alert
from backsight_model.live.shadow import Challenger
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webdriver import WebDriver
from selenium.webdriver.support.ui import WebDriverWait

pytestmark = pytest.mark.slow

QUIET = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage",
)  # fmt: skip
FAINT = """
const parts = color => (color.match(/[\\d.]+/g) ?? []).map(Number);
const light = rgb => rgb.slice(0, 3).map(c => c / 255).map(c => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
  .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
function behind(node) {
  for (; node; node = node.parentElement) {
    const color = parts(getComputedStyle(node).backgroundColor);
    if (color.length === 3) return color;
  }
}
const found = [];
for (const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT); walk.nextNode();) {
  const node = walk.currentNode.parentElement;
  if (!walk.currentNode.textContent.trim() || !node.checkVisibility() || node.closest("script, noscript")) continue;
  const style = getComputedStyle(node), paper = light(behind(node));
  const ink = light(parts(node.closest("svg") ? style.fill : style.color));
  const contrast = (Math.max(ink, paper) + 0.05) / (Math.min(ink, paper) + 0.05);
  if (contrast < 4.5) found.push([walk.currentNode.textContent, contrast]);
}
return found;
"""
"""Returns the texts that stand out too little from what is behind them (WCAG 2.2, 1.4.3)."""


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebDriver]:
    browser, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if browser is None or driver is None:
        pytest.skip("needs chromium and chromedriver (Debian: apt-get install chromium chromium-driver)")
    options = webdriver.ChromeOptions()
    options.binary_location = browser
    for argument in (*QUIET, f"--user-data-dir={tmp_path_factory.mktemp('chromium')}"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    with webdriver.Chrome(options, webdriver.ChromeService(driver)) as made:
        yield made


class Tab:
    """The page as a person sees it."""

    def __init__(self, browser: WebDriver, screen: Any) -> None:
        self.browser, self.screen = browser, screen

    def open(self, state: str = "ready", *, width: int = 1200, dark: bool = False) -> None:
        size = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 500}
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        self.browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
        self.browser.get(self.screen.address)
        self.until(state)

    def until(self, state: str) -> None:
        """Wait until the page is in a state, and asks for something only where it is loading."""
        busy = "[aria-busy]" if state == "loading" else ":not([aria-busy])"
        WebDriverWait(self.browser, 20).until(lambda _: self.all(f"body[data-state={state}]{busy}"))

    def all(self, selector: str) -> list[Any]:
        return self.browser.find_elements(By.CSS_SELECTOR, selector)

    def text(self, selector: str) -> str:
        return str(self.browser.find_element(By.CSS_SELECTOR, selector).text)

    def run(self, script: str) -> Any:
        return self.browser.execute_script(script)

    def click(self, selector: str) -> None:
        self.browser.find_element(By.CSS_SELECTOR, selector).click()


@pytest.fixture
def tabs(chromium: WebDriver, screens: Callable[..., Any]) -> Iterator[Callable[..., Tab]]:
    """Return a function that starts a service and a tab on it, in which nothing may go wrong unseen."""
    chromium.get_log("browser")
    yield lambda keys=False: Tab(chromium, screens(keys))
    said = [entry["message"] for entry in chromium.get_log("browser")]
    # The browser itself notes answers with a status of an error, and services that are away.
    assert [line for line in said if "Failed to load resource" not in line] == []


@pytest.fixture
def full(tabs: Callable[..., Tab]) -> Tab:
    """Return a tab on a service with two symbols, one of them by override, and something to act on."""
    tab = tabs()
    screen = tab.screen
    for symbol, override in (("BTC-USD", None), ("ETH-USD", "to try the service")):
        screen.promote(symbol, override=override)
        screen.publish(symbol)
    alert = Alert(rule="worse", symbol="ETH-USD", said="ETH-USD: gain on HAR-X, volatility: it is a loss")
    jobs = (
        screen.job("news:feed:https://example.org/feed.xml", "failed", error="SourceError: <b>503</b> & no answer"),
        screen.job("prices:bitstamp:BTC/USD:1h", "quarantine", rows=3),
        screen.job("macro:fred:DGS10"),
    )
    screen.look(screen.watch("BTC-USD"), screen.watch("ETH-USD", gain=-0.06, alerts=(alert,)), jobs=jobs)
    return tab


def test_one_screen_says_what_to_act_on_and_what_each_symbol_and_source_is(full: Tab) -> None:
    full.open()
    assert full.text("#headline") == "2 things to act on, 2 to know"
    found = full.text("#findings")
    assert "Alert, worse: ETH-USD: gain on HAR-X, volatility: it is a loss" in found
    assert "Source failed: news:feed:https://example.org/feed.xml: SourceError: <b>503</b> & no answer" in found
    assert (
        found.index("Source failed")
        < found.index("Override: ETH-USD is forecast without proven skill")
        < found.index("3 rows waiting")
    )
    bitcoin, ether = (card.text for card in full.all("article.card"))
    assert "2 min old" in bitcoin
    made = json.loads(full.screen.ask("/v1/forecast/BTC-USD")[2])
    low, high = (100 * math.expm1(made["quantiles"][level]) for level in ("0.05", "0.95"))
    assert f"return, 90 % interval\n\N{MINUS SIGN}{-low:.1f} to +{high:.1f} %" in bitcoin
    assert "on HAR-X\n● better" in bitcoin
    assert "In use all the same: “to try the service”" in ether
    assert "on HAR-X\n■ worse" in ether
    assert [row.text for row in full.all("#sources tbody td:nth-of-type(1)")] == ["■ failed", "▲ quarantine", "● ok"]
    assert full.all("article.card svg[role=img] path.said")[0].get_attribute("d").count("L") == 335
    label = full.all("article.card svg[role=img]")[0].get_attribute("aria-label")
    assert label.startswith("Volatility a year from 27 Jan to 10 Feb. Forecast last ")


def test_details_open_by_click_and_key_and_stay_open_when_the_page_asks_again(full: Tab) -> None:
    full.open()
    assert "is proven" not in full.text("article.card")
    full.click("article.card summary")
    shown = full.text("article.card details")
    assert "gain on a coin, direction" in shown
    assert "The last outcomes, volatility a year\nbar closed forecast what came\n9 Feb 07:00" in shown
    full.screen.now += timedelta(minutes=1)
    full.click("#refresh")
    full.until("ready")
    assert "3 min old" in full.text("article.card")
    assert len(full.all("details[open]")) == 1
    second = full.all("summary")[1]
    second.send_keys(Keys.ENTER)
    assert len(full.all("details[open]")) == 2
    assert full.run("return getComputedStyle(document.activeElement).outlineStyle") == "solid"
    full.click("#refresh")
    full.until("ready")


@pytest.mark.parametrize("dark", [False, True])
def test_it_is_readable_in_light_and_dark_and_on_a_phone_nothing_sticks_out(full: Tab, dark: bool) -> None:
    full.open(dark=dark)
    paper = full.run("return getComputedStyle(document.body).backgroundColor")
    assert paper == ("rgb(19, 20, 21)" if dark else "rgb(245, 245, 243)")
    full.run("document.querySelectorAll('details').forEach(one => one.open = true)")
    assert full.run(FAINT) == []
    full.open(width=360, dark=dark)
    full.run("document.querySelectorAll('details').forEach(one => one.open = true)")
    assert full.run("return document.documentElement.scrollWidth") == 360
    assert (
        full.run(
            "return [...document.querySelectorAll('main *')].filter(e => e.getBoundingClientRect().right > 360).length"
        )
        == 0
    )


def test_an_empty_home_says_what_to_do(tabs: Callable[..., Tab]) -> None:
    tab = tabs()
    tab.open("empty")
    assert tab.text("#headline") == "3 things to know"
    assert "No model: none is in use yet; backsight train" in tab.text("#findings")
    assert not tab.all("article.card")
    assert "Nobody looked at the sources yet" in tab.text("#sources")


def test_what_is_well_is_said_to_be_and_what_is_stale_is_refused_with_the_reason(tabs: Callable[..., Tab]) -> None:
    tab = tabs()
    tab.screen.promote("BTC-USD")
    tab.screen.publish("BTC-USD")
    tab.screen.look(tab.screen.watch("BTC-USD", gain=0.0), jobs=(tab.screen.job("macro:fred:DGS10"),))
    tab.open("ready")
    assert tab.text("#headline") == "All is well: 1 forecast, 1 source"
    assert "○ undecided" in tab.text("article.card")
    tab.screen.now += timedelta(hours=5)
    tab.click("#refresh")
    tab.until("ready")
    assert "Refused, stale: forecast_1h window" in tab.text("#findings")
    assert "closed at 2023-02-10T07:00:00Z, 5:02:00 before" in tab.text("article.card .loud")
    assert "chance of a rise" not in tab.text("article.card")
    assert "backsight watch last ran 5 h 1 min ago" in tab.text("#findings")


def test_inputs_that_drift_are_to_act_on_and_a_challenger_is_a_line(tabs: Callable[..., Tab]) -> None:
    tab = tabs()
    tab.screen.promote("BTC-USD")
    tab.screen.publish("BTC-USD")
    psi = {"volume_z_168h": 1.5, "ret_log_1h": 0.1}
    inputs = Inputs(psi=psi, usual=dict.fromkeys(psi, 0.3), since=np.datetime64("2023-01-13", "us"))
    gain = Interval(what="errors less", mean=0.03, low=-0.01, high=0.07, blocks=40)
    undecided = Challenger(name="forecast_1h-new", champion="forecast_1h-old", known=960, gain=gain)
    drifting = Alert(rule="drifting", symbol="BTC-USD", said=f"BTC-USD: {inputs.words}")
    fine = tab.screen.job("macro:fred:DGS10")
    tab.screen.look(tab.screen.watch("BTC-USD", alerts=(drifting,), inputs=inputs, challenger=undecided), jobs=(fine,))
    tab.open("ready")
    assert tab.text("#headline") == "1 thing to act on"
    said = "Alert, drifting: BTC-USD: inputs: 1 of 2 features moved, most volume_z_168h (PSI 1.50"
    assert said in tab.text("#findings")
    card = tab.text("article.card")
    assert said in card
    assert "Challenger in shadow: ○ undecided" in card
    assert "losses lower by +3.00 % [-1.00, +7.00] over 40 horizons" in card
    tab.click("article.card summary")
    assert "inputs 1 of 2 features moved" in tab.text("article.card details").replace("\n", " ")
    proven = replace(undecided, gain=replace(gain, low=0.01))
    tab.screen.look(tab.screen.watch("BTC-USD", challenger=proven, alerts=proven.alerts("BTC-USD")), jobs=(fine,))
    tab.click("#refresh")
    tab.until("ready")
    assert tab.text("#headline") == "1 thing to know"
    assert "`backsight promote forecast_1h-new` puts it in the place of" in tab.text("#findings")
    assert "Challenger in shadow: ● better" in tab.text("article.card")
    assert tab.run(FAINT) == []


def test_a_symbol_that_was_not_looked_at_with_the_others_is_named(tabs: Callable[..., Tab]) -> None:
    tab = tabs()
    for symbol in ("BTC-USD", "ETH-USD"):
        tab.screen.promote(symbol, override="to try")
        tab.screen.publish(symbol)
    old = tab.screen.watch("ETH-USD") | {"at": (tab.screen.now - timedelta(hours=9)).isoformat()}
    tab.screen.look(tab.screen.watch("BTC-USD"), old)
    tab.open("ready")
    assert "Not looked at: backsight watch last saw ETH-USD 9 h ago" in tab.text("#findings")
    assert "saw BTC-USD" not in tab.text("#findings")


def test_a_chart_draws_no_line_where_forecasts_are_missing_and_a_point_for_a_single_one(
    tabs: Callable[..., Tab],
) -> None:
    tab = tabs()
    seen = tab.screen.watch("BTC-USD")
    whole = seen["recent"]
    for rows, begun in ((range(336), 1), ([*range(100), *range(150, 336)], 2), ([335], 1)):
        columns = {name: [whole[name][row] for row in rows] for name in ("observed_at", "said", "came")}
        tab.screen.look(seen | {"recent": whole | columns})
        tab.open()
        line = tab.all("article.card path.said")[0].get_attribute("d")
        assert (line.count("M"), line.count("L")) == (begun, len(rows) - begun)


def test_a_key_is_asked_for_a_wrong_one_is_said_and_a_right_one_opens(tabs: Callable[..., Tab]) -> None:
    tab = tabs(keys=True)
    tab.screen.promote("BTC-USD")
    tab.open("locked")
    assert tab.text("#entry h2") == "A key is needed"
    assert tab.run("return document.activeElement.id") == "key"
    for wrong in ("no such key", "wrong", "ключ"):
        tab.browser.find_element(By.ID, "key").send_keys(wrong, Keys.ENTER)
        tab.until("locked")
        assert tab.text("#entry-why") == "The service does not know this key."
    tab.browser.find_element(By.ID, "key").send_keys(tab.screen.key)
    tab.click("#form button")
    tab.until("ready")
    assert "BTC-USD" in tab.text("#forecasts")
    assert tab.screen.key not in tab.browser.page_source + tab.browser.current_url
    tab.browser.refresh()
    tab.until("ready")
    tab.click("#forget")
    tab.until("locked")
    assert "BTC-USD" not in tab.browser.page_source
    assert tab.run("return sessionStorage.length") == 0


def test_a_service_that_is_away_is_said_and_what_was_seen_stays(full: Tab) -> None:
    full.open()
    full.browser.execute_cdp_cmd("Network.enable", {})
    for away in (True, False):
        network = {"offline": away, "latency": 0, "downloadThroughput": -1, "uploadThroughput": -1}
        full.browser.execute_cdp_cmd("Network.emulateNetworkConditions", network)
        full.click("#refresh")
        full.until("error" if away else "ready")
        assert full.text("#headline").startswith("No answer; what is shown is " if away else "2 things")
        assert "BTC-USD" in full.text("#forecasts")
    assert full.all("[data-stale]") == []


def test_while_it_waits_it_says_so_and_who_cannot_see_is_told_of_what_changes(full: Tab) -> None:
    full.screen.gate.clear()
    full.open("loading")
    assert full.text("[role=status]") == "Reading …"
    full.screen.gate.set()
    full.until("ready")
    assert full.text("[role=status]").startswith("2 things to act on")
    assert [one.aria_role for one in full.all("header, main, footer")] == ["banner", "main", "contentinfo"]
    for row in full.all("tbody tr"):
        assert row.find_elements(By.CSS_SELECTOR, "th[scope=row]")
    unnamed = (
        "section:not([aria-labelledby]), article:not([aria-labelledby]), #key:not([aria-describedby]), th:not([scope])"
    )
    assert full.all(unnamed) == []
