"""The page for people, in a real Chromium, over real peers."""

import random
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import pytest

from eventually import eventually
from system.browser import Browser
from system.cluster import Cluster
from system.payload import make_file

pytestmark = pytest.mark.chromium

HOSTILE = "<img src=x onerror=alert(1)><script>alert(2)</script> \"'&amp;.txt".replace("/", "")
# Text against what is behind it, for everything that a reader sees: (ratio, text) of what is below the norm.
PALE = """(() => {
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
    if (!node.getClientRects().length || node.closest(".unseen")) continue;
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
    """A tracker that soon notices who is gone."""
    empty_cluster.start_tracker(PING_TIMEOUT=3)
    return empty_cluster


def page_of(cluster: Cluster) -> str:
    scheme = "http" if cluster.certificates is None else "https"
    return f"{scheme}://127.0.0.1:{cluster.tracker.program.port}/"


def enter(browser: Browser, cluster: Cluster, user: str, password: str = "correct horse") -> None:
    """Log in with the keyboard, as a user would."""
    browser.open(page_of(cluster))
    browser.type("#username", user)
    browser.type("#password", password)
    browser.press_enter()


def test_a_user_watches_a_file_arrive_and_a_peer_go(browser: Browser, cluster: Cluster, rng: random.Random) -> None:
    ana, ben = cluster.peer("ana"), cluster.peer("ben")
    enter(browser, cluster, "ana")
    eventually(lambda: browser.text("#pulse") == "live")
    assert {ana.address, ben.address} == set(
        browser.js("[...document.querySelectorAll('.peers .url')].map((e) => e.innerText)")
    )
    browser.js("window.unchanged = true")

    make_file(ana.home / "film.bin", 3_000_000, rng)
    assert ana.pclient("upload", "film.bin").one["copies"] == [ben.address]
    eventually(lambda: "film.bin" in browser.text("[data-part=files]"), seconds=5)
    eventually(lambda: browser.text("[data-part=files] .copies").startswith("2"), seconds=5)
    eventually(lambda: browser.js("document.querySelectorAll('.arrow').length"), seconds=5)
    eventually(lambda: "placed at ben for ana" in browser.text("[data-part=placed]"), seconds=5)

    ben.kill()
    eventually(lambda: ben.address not in browser.text("[data-part=peers]"), seconds=10)
    eventually(lambda: "ben fell silent" in browser.text("[data-part=failures]"), seconds=5)
    eventually(lambda: browser.js("document.querySelector('tr.once .badge.amber') !== null"), seconds=10)

    assert browser.js("window.unchanged"), "all without loading the page again"
    assert browser.complaints() == []


def test_a_hostile_name_is_shown_as_the_text_that_it_is(browser: Browser, cluster: Cluster, rng: random.Random) -> None:
    ana = cluster.peer("ana")
    enter(browser, cluster, "ana")
    eventually(lambda: browser.text("#pulse") == "live")
    make_file(ana.shared / HOSTILE, 1000, rng)
    eventually(lambda: HOSTILE in browser.text("[data-part=files]"))
    browser.open(page_of(cluster))
    assert HOSTILE in browser.text("[data-part=files]")
    assert browser.js("document.querySelectorAll('img[src=x], script:not([src])').length") == 0
    assert browser.complaints() == []


def test_search_finds_as_one_types_and_keeps_the_cursor(browser: Browser, cluster: Cluster, rng: random.Random) -> None:
    ana = cluster.peer("ana", login=False)
    for at in range(300):
        make_file(ana.shared / f"set/{at:03}.dat", 10, rng)
    ana.login("ana")
    enter(browser, cluster, "ana")
    rows = "document.querySelectorAll('.files tbody tr').length"
    eventually(lambda: browser.js(rows) == 200)
    browser.type("#match", "set/29")
    eventually(lambda: browser.js(rows) == 10, seconds=5)
    assert browser.js("document.activeElement.id") == "match"
    browser.type("#match", "9.dat")
    eventually(lambda: browser.js(rows) == 1, seconds=5)
    assert "match=set%2F299.dat" in browser.js("location.search")
    browser.open(browser.js("location.href"))
    assert browser.js(rows) == 1
    assert browser.complaints() == []


def test_nothing_is_asked_while_nobody_looks(browser: Browser, cluster: Cluster) -> None:
    cluster.peer("ana")
    enter(browser, cluster, "ana")
    eventually(lambda: browser.text("#pulse") == "live")
    hide = "Object.defineProperty(document, 'hidden', {{value: {}, configurable: true}});"
    turn = "document.dispatchEvent(new Event('visibilitychange'))"
    browser.js(hide.format("true") + turn)
    assert browser.text("#pulse") == "paused"
    before = browser.requests()
    assert browser.js("new Promise((done) => setTimeout(() => done(true), 4500))")
    assert browser.requests() <= before + 1, "at most the one that was under way"
    browser.js(hide.format("false") + turn)
    eventually(lambda: browser.text("#pulse") == "live" and browser.requests() > before)


def test_with_its_script_off_the_page_is_whole_and_comes_again(
    browser: Browser, cluster: Cluster, rng: random.Random
) -> None:
    ana = cluster.peer("ana")
    browser.call("Emulation.setScriptExecutionDisabled", value=True)
    enter(browser, cluster, "ana")
    eventually(lambda: ana.address in browser.text("[data-part=peers]"))
    make_file(ana.shared / "note.txt", 1000, rng)
    eventually(lambda: "note.txt" in browser.text("[data-part=files]"), seconds=15)
    assert "ago" in browser.text(".peers .seen") or "now" in browser.text(".peers .seen")


def test_a_tracker_that_is_gone_is_told_and_one_that_is_back_asks_who_is_there(
    browser: Browser, cluster: Cluster
) -> None:
    cluster.peer("ana")
    enter(browser, cluster, "ana")
    eventually(lambda: browser.text("#pulse") == "live")
    cluster.tracker.kill()
    eventually(lambda: "does not answer" in browser.text("#pulse"))
    assert "ana" in browser.text("[data-part=peers]"), "what was known last stays in sight"
    cluster.tracker.start()
    eventually(lambda: browser.js("document.querySelector('#username') !== null"))


def test_who_logs_out_sees_the_form(browser: Browser, cluster: Cluster) -> None:
    cluster.peer("ana")
    enter(browser, cluster, "ana", "wrong")
    eventually(lambda: browser.text(".refusal") == "Wrong user name or password.")
    browser.type("#password", "correct horse")
    browser.press_enter()
    eventually(lambda: browser.text("#pulse") == "live")
    browser.js("document.querySelector('.top button').click()")
    eventually(lambda: browser.js("document.querySelector('#username') !== null"))
    browser.open(page_of(cluster))
    assert browser.text("[data-part]") == ""


def test_it_fits_every_width_and_can_be_read_in_light_and_dark(
    browser: Browser, cluster: Cluster, rng: random.Random
) -> None:
    ana, ben = cluster.peer("ana"), cluster.peer("ben")
    make_file(ana.home / ("a name without a place to break" + "-x" * 60 + ".txt"), 1000, rng)
    make_file(ana.home / "both.txt", 1000, rng)
    ana.pclient("upload", "both.txt")
    ana.pclient("upload", "--copies", "0", *(path.name for path in ana.home.glob("a name*")))
    for width, scheme in product((320, 390, 768, 1440, 2560), ("light", "dark")):
        browser.resize(width, 900, scheme)
        browser.open(page_of(cluster))
        assert browser.js(PALE) == []
        if browser.js("document.querySelector('#username') !== null"):
            enter(browser, cluster, "ben")
        eventually(lambda: browser.text("#pulse") == "live")
        eventually(lambda: "both.txt" in browser.text("[data-part=files]"))
        assert browser.js("document.documentElement.scrollWidth") <= width
        assert browser.js(PALE) == []
    assert ben.address in browser.text("[data-part=peers]")
    assert browser.complaints() == []
