"""The dashboard in headless Chromium, with real peers."""

import os
import random
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import pytest

from eventually import eventually
from nginx import nginx
from system.browser import Browser
from system.cluster import Cluster
from system.payload import make_file

pytestmark = pytest.mark.chromium

HOSTILE = "<img src=x onerror=alert(1)><script>alert(2)</script> \"'&amp;.txt".replace("/", "")
# Contrast of every visible text with its background: [ratio, text] of each that is below 4.5 (WCAG 2.1, level AA).
LOW_CONTRAST = """(() => {
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const rgba = (colour) => {
    canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  };
  const light = ([r, g, b]) => [r, g, b].map((c) => c / 255)
    .map((c) => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
    .reduce((sum, c, at) => sum + c * [0.2126, 0.7152, 0.0722][at], 0);
  const behind = (node) => {
    for (; node; node = node.parentElement) {
      const colour = rgba(getComputedStyle(node).backgroundColor);
      if (colour[3] === 255) return colour;
    }
    return [255, 255, 255];
  };
  const found = [];
  for (const node of document.querySelectorAll("body *")) {
    if (![...node.childNodes].some((each) => each.nodeType === 3 && each.data.trim())) continue;
    const style = getComputedStyle(node);
    if (!node.getClientRects().length || node.closest(".visually-hidden")) continue;
    const ink = rgba(node.closest("svg") ? style.fill : style.color);
    const [one, other] = [light(ink), light(behind(node))].sort((a, b) => b - a);
    const ratio = (one + 0.05) / (other + 0.05);
    if (ratio < 4.5) found.push([ratio.toFixed(2), node.textContent.trim().slice(0, 40)]);
  }
  return found;
})()"""


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Browser]:
    with Browser(tmp_path / "profile") as browser:
        yield browser


@pytest.fixture
def cluster(empty_cluster: Cluster) -> Cluster:
    """A cluster whose tracker drops a silent peer after 3 seconds."""
    empty_cluster.start_tracker(PING_TIMEOUT=3)
    return empty_cluster


def dashboard_of(cluster: Cluster) -> str:
    scheme = "http" if cluster.certificates is None else "https"
    return f"{scheme}://127.0.0.1:{cluster.tracker.program.port}/"


def log_in(browser: Browser, cluster: Cluster, user: str, password: str = "correct horse") -> None:
    """Open the dashboard and log in with the keyboard."""
    browser.open(dashboard_of(cluster))
    browser.type("#username", user)
    browser.type("#password", password)
    browser.press_enter("#password")


def wait_until_live(browser: Browser) -> None:
    eventually(lambda: browser.text("#pulse") == "live")


@pytest.mark.nginx
def test_below_a_path_of_a_proxy_the_page_is_live_and_its_links_work(
    cluster: Cluster, browser: Browser, tmp_path: Path
) -> None:
    ana = cluster.peer("ana")
    (ana.shared / "plan.txt").write_text("x")
    tracker = dashboard_of(cluster)
    location = f"location /p2p/ {{ proxy_pass {tracker}; proxy_set_header Host $http_host; }}"
    with nginx(tmp_path / "nginx", location) as port:
        # Without the slash at the end nginx adds it.
        browser.open(f"http://127.0.0.1:{port}/p2p")
        browser.type("#username", "ana")
        browser.type("#password", "wrong")
        browser.press_enter("#password")
        eventually(lambda: "Wrong user name or password" in browser.text("main"))
        browser.type("#password", "correct horse")
        browser.press_enter("#password")
        wait_until_live(browser)
        assert browser.js("location.pathname") == "/p2p/"
        eventually(lambda: "plan.txt" in browser.text("#files"))
        (ana.shared / "notes.txt").write_text("y")
        eventually(lambda: "notes.txt" in browser.text("#files"))
        browser.js("document.querySelector('nav a[href*=single-copy]').click()")
        eventually(lambda: "only=single-copy" in browser.js("location.search"))
        wait_until_live(browser)
        assert browser.js("location.pathname") == "/p2p/"
        browser.type("#match", "plan")
        browser.press_enter("#match")
        eventually(lambda: "notes.txt" not in browser.text("#files") and "plan.txt" in browser.text("#files"))
        browser.js("document.querySelector('header button').click()")
        eventually(lambda: browser.js("document.querySelector('#username') !== null"))
        assert browser.js("location.pathname") == "/p2p/"


def test_an_upload_and_a_lost_peer_appear_without_a_reload(
    browser: Browser, cluster: Cluster, rng: random.Random
) -> None:
    ana, ben = cluster.peer("ana"), cluster.peer("ben")
    log_in(browser, cluster, "ana")
    wait_until_live(browser)
    assert {ana.address, ben.address} == set(
        browser.js("[...document.querySelectorAll('.peers .url')].map((e) => e.innerText)")
    )
    browser.js("window.notReloaded = true")

    make_file(ana.home / "film.bin", 3_000_000, rng)
    assert ana.pclient("upload", "film.bin").one["copies"] == [ben.address]
    eventually(lambda: "film.bin" in browser.text("[data-part=files]"))
    eventually(lambda: browser.text("[data-part=files] .copies").startswith("2"))
    eventually(lambda: browser.js("document.querySelectorAll('.arrow').length"))
    eventually(lambda: "stored at ben for ana" in browser.text("[data-part=placements]"))

    ben.kill()
    eventually(lambda: ben.address not in browser.text("[data-part=peers]"))
    eventually(lambda: "ben timed out" in browser.text("[data-part=errors]"))
    eventually(lambda: browser.js("document.querySelector('tr.single-copy .badge.amber') !== null"))

    assert browser.js("window.notReloaded")
    assert browser.console() == []


def test_a_hostile_name_is_shown_as_text(browser: Browser, cluster: Cluster, rng: random.Random) -> None:
    ana = cluster.peer("ana")
    log_in(browser, cluster, "ana")
    wait_until_live(browser)
    make_file(ana.shared / HOSTILE, 1000, rng)
    eventually(lambda: HOSTILE in browser.text("[data-part=files]"))
    browser.open(dashboard_of(cluster))
    assert HOSTILE in browser.text("[data-part=files]")
    assert browser.js("document.querySelectorAll('img[src=x], script:not([src])').length") == 0
    assert browser.console() == []


def test_search_updates_while_the_user_types_and_keeps_the_cursor(
    browser: Browser, cluster: Cluster, rng: random.Random
) -> None:
    ana = cluster.peer("ana", login=False)
    for number in range(300):
        make_file(ana.shared / f"set/{number:03}.dat", 10, rng)
    ana.login("ana")
    log_in(browser, cluster, "ana")
    rows = "document.querySelectorAll('.files tbody tr').length"
    eventually(lambda: browser.js(rows) == 200)
    browser.type("#match", "set/29")
    eventually(lambda: browser.js(rows) == 10)
    assert browser.js("document.activeElement.id") == "match"
    browser.type("#match", "9.dat")
    eventually(lambda: browser.js(rows) == 1)
    assert "match=set%2F299.dat" in browser.js("location.search")
    browser.open(browser.js("location.href"))
    assert browser.js(rows) == 1
    assert browser.console() == []


def test_a_hidden_page_sends_no_requests(browser: Browser, cluster: Cluster) -> None:
    cluster.peer("ana")
    log_in(browser, cluster, "ana")
    wait_until_live(browser)
    hide = "void Object.defineProperty(document, 'hidden', {{value: {}, configurable: true}})"
    notify = "document.dispatchEvent(new Event('visibilitychange'))"
    browser.js(hide.format("true"))
    browser.js(notify)
    assert browser.text("#pulse") == "paused"
    before = browser.requests()
    # Two intervals and a half of the page's own polls.
    browser.wait(5.0)
    assert browser.requests() <= before + 1, "at most the one that was in flight"
    browser.js(hide.format("false"))
    browser.js(notify)
    eventually(lambda: browser.text("#pulse") == "live" and browser.requests() > before)


def test_without_scripts_the_page_is_complete_and_reloads(
    browser: Browser, cluster: Cluster, rng: random.Random
) -> None:
    ana = cluster.peer("ana")
    browser.disable_scripts()
    log_in(browser, cluster, "ana")
    eventually(lambda: ana.address in browser.text("[data-part=peers]"))
    make_file(ana.shared / "note.txt", 1000, rng)
    eventually(lambda: "note.txt" in browser.text("[data-part=files]"))
    assert "ago" in browser.text(".peers .seen") or "now" in browser.text(".peers .seen")


def test_a_lost_tracker_is_shown_and_after_its_restart_the_login_form(browser: Browser, cluster: Cluster) -> None:
    cluster.peer("ana")
    log_in(browser, cluster, "ana")
    wait_until_live(browser)
    cluster.tracker.kill()
    eventually(lambda: "tracker unreachable" in browser.text("#pulse"))
    assert "ana" in browser.text("[data-part=peers]"), "the last known content stays"
    cluster.tracker.start()
    eventually(lambda: browser.js("document.querySelector('#username') !== null"))


def test_logging_out_shows_the_login_form(browser: Browser, cluster: Cluster) -> None:
    cluster.peer("ana")
    log_in(browser, cluster, "ana", "wrong")
    eventually(lambda: browser.text(".refusal") == "Wrong user name or password.")
    browser.type("#password", "correct horse")
    browser.press_enter("#password")
    wait_until_live(browser)
    browser.click(".top button")
    eventually(lambda: browser.js("document.querySelector('#username') !== null"))
    browser.open(dashboard_of(cluster))
    assert browser.text("[data-part]") == ""


def test_it_fits_every_width_with_enough_contrast_in_light_and_dark(
    browser: Browser, cluster: Cluster, rng: random.Random
) -> None:
    ana, ben = cluster.peer("ana"), cluster.peer("ben")
    make_file(ana.home / ("a name without a place to break" + "-x" * 60 + ".txt"), 1000, rng)
    make_file(ana.home / "both.txt", 1000, rng)
    ana.pclient("upload", "both.txt")
    ana.pclient("upload", "--copies", "0", *(path.name for path in ana.home.glob("a name*")))
    for width, scheme in product((320, 390, 768, 1440, 2560), ("light", "dark")):
        browser.resize(width, 900, scheme)
        browser.open(dashboard_of(cluster))
        assert browser.js(LOW_CONTRAST) == []
        if browser.js("document.querySelector('#username') !== null"):
            log_in(browser, cluster, "ben")
        wait_until_live(browser)
        eventually(lambda: "both.txt" in browser.text("[data-part=files]"))
        assert browser.js("document.documentElement.scrollWidth") <= width
        assert browser.js(LOW_CONTRAST) == []
        if folder := os.environ.get("P2P_SCREENSHOTS"):
            browser.screenshot(Path(folder) / f"dashboard-{width}-{scheme}.png")
    assert ben.address in browser.text("[data-part=peers]")
    assert browser.console() == []
