"""The site in a browser, from a folder: each page, wide and phone-sized, light and dark; the search."""

import re
from urllib.parse import unquote

import pytest
from pages import blocks

PAGES = ["index.html", "start/pictures.html", "guides/own-images.html", "reference/convolution.html", "tour.html"]
#: blocks of code that are wider than their place, and what they begin with
WIDE = """[...document.querySelectorAll(".bd-article pre")].filter(pre => pre.scrollWidth > pre.clientWidth + 1)
    .map(pre => pre.innerText.split("\\n").reduce((a, b) => a.length > b.length ? a : b))"""
#: how far the page goes beyond its window, and the elements that reach furthest
BEYOND = """(() => {
    const width = document.documentElement.clientWidth, over = document.documentElement.scrollWidth - width;
    if (over <= 0) return [];
    const outside = element => element.getBoundingClientRect().right > width + 1;
    return [over, ...[...document.querySelectorAll(".bd-article *")].filter(outside).slice(0, 3)
        .map(element => element.outerHTML.slice(0, 120))];
})()"""

#: names of parameters that are broken into two lines
BROKEN = """[...document.querySelectorAll(".bd-article dt > strong")].filter(name => {
    const range = document.createRange();
    range.selectNodeContents(name);
    return !name.innerText.includes(" ") && new Set([...range.getClientRects()].map(line => line.top)).size > 1;
}).map(name => name.innerText)"""


@pytest.fixture(scope="session")
def pages(site):
    """The pages that have been written, by their places in the folder."""
    found = [path.relative_to(site).as_posix() for path in sorted(site.rglob("*.html"))]
    left_out = ("_", "dashboard/", "genindex", "search", "py-modindex")
    # pages that stand alone, such as explanations of layers, have tests of their own
    found = [page for page in found if not page.startswith(left_out)]
    return [page for page in found if "bd-article" in (site / page).read_text(encoding="utf-8")]


def test_there_is_every_page(pages):
    assert {*PAGES} <= {*pages}
    assert len(pages) > 40


@pytest.mark.parametrize("width", [400, 1012])
def test_no_page_and_no_program_scrolls_sideways_and_no_name_is_broken(look, pages, width):
    found = {page: look(page, width).driver.execute_script(f"return [{BEYOND}, {WIDE}, {BROKEN}]") for page in pages}
    assert {page: what for page, what in found.items() if what != [[], [], []]} == {}


@pytest.mark.parametrize("page", PAGES)
def test_light_and_dark(look, page):
    grounds = {}
    for theme in ("light", "dark"):
        browser = look(page, theme=theme)
        browser.until(f"document.documentElement.dataset.theme == '{theme}'")
        colors = browser.driver.execute_script(
            "return ['backgroundColor', 'color'].map(name => getComputedStyle(document.body)[name])"
        )
        ground, text = (sum(map(float, re.findall(r"[\d.]+", color)[:3])) / 3 for color in colors)
        assert abs(ground - text) > 120
        grounds[theme] = ground
    assert grounds["light"] > 200 > 60 > grounds["dark"]


@pytest.mark.parametrize("page", ["pictures", "arrays", "understand"])
def test_each_way_in_is_one_screen(look, page):
    browser = look(f"start/{page}.html")
    bottom = browser.until(
        "[...document.querySelectorAll('.bd-article > section > *')].pop().getBoundingClientRect().bottom"
    )
    assert bottom <= 900


@pytest.mark.parametrize(
    ("words", "page"),
    [
        ("padding", "reference/convolution.html"),
        ("confusion matrix", "own-images.html"),
        ("learning rate", "glossary.html"),
    ],
)
def test_the_search_finds_pages_from_a_folder(look, words, page):
    browser = look(f"search.html?q={words.replace(' ', '+')}")
    browser.until("document.querySelectorAll('#search-results li').length > 3", seconds=60)
    browser.until("!/Searching/.test(document.querySelector('#search-results').innerText)", seconds=60)
    found = browser.driver.execute_script(
        "return [...document.querySelectorAll('#search-results li a')].map(link => link.getAttribute('href'))"
    )
    assert any(page in unquote(link) for link in found), found


def test_the_search_is_a_click_away(look):
    browser = look("index.html")
    browser.until("document.querySelector('button.search-button__button')").click()
    field = browser.until("[...document.querySelectorAll('input[type=search]')].find(field => field.offsetWidth > 100)")
    field.send_keys("dilation\n")
    browser.until("document.querySelectorAll('#search-results li').length > 3", seconds=60)


def test_the_menu_of_a_small_screen_opens(look):
    browser = look("guides/own-images.html", 400)
    browser.until("document.querySelector('button.primary-toggle')").click()
    browser.until(
        "[...document.querySelectorAll('a')].some(link => link.offsetParent && /Guides/.test(link.innerText))"
    )


def test_links_within_the_site_lead_to_files_and_places(site, pages):
    """Also those that themes and extensions make, which the build does not check."""
    places, broken = {}, []
    for page in pages:
        text = (site / page).read_text(encoding="utf-8")
        for link in re.findall(r'href="([^"]+)"', text):
            if re.match(r"[a-z]+:", link):
                continue
            name, _, anchor = unquote(link).partition("#")
            target = (site / page).parent / name.partition("?")[0] if name else site / page
            if not target.is_file():
                broken.append(f"{page}: {link}")
            elif anchor and target.suffix == ".html":
                if target not in places:
                    places[target] = {*re.findall(r'id="([^"]+)"', target.read_text(encoding="utf-8"))}
                if anchor not in places[target]:
                    broken.append(f"{page}: {link}")
    assert broken == []


def test_nothing_is_loaded_from_elsewhere(site):
    """In the text of pages, styles and scripts, also where a browser would ask for it only later."""
    loads = re.compile(
        r"""<(?:script|img|iframe|source|video)\b[^>]*\bsrc=["']?(?:https?:)?//[^"'> ]+"""
        r"""|<link\b(?=[^>]*rel=["']?(?:stylesheet|preload|icon|preconnect))[^>]*href=["']?(?:https?:)?//[^"'> ]+"""
        r"""|@import\s+(?:url\()?["']?(?:https?:)?//[^"')]+|url\(["']?(?:https?:)?//[^"')]+"""
    )
    found = [
        f"{path.relative_to(site)}: {match.group(0)[:200]}"
        for path in sorted(site.rglob("*"))
        if path.suffix in {".html", ".css", ".svg"} and "dashboard" not in path.parts
        for match in loads.finditer(path.read_text(encoding="utf-8"))
    ]
    assert found == []


def test_every_picture_has_a_text(site, pages):
    mute = [
        f"{page}: {tag}"
        for page in pages
        for tag in re.findall(r"<img\b[^>]*>", (site / page).read_text(encoding="utf-8"))
        if not re.search(r'\balt="[^"]+"', tag)
    ]
    assert mute == []


def test_what_is_not_run_is_listed(site):
    listed = (site / "not-run.html").read_text(encoding="utf-8")
    marked = sum(len(blocks.not_run(page)) for page in blocks.pages())
    assert marked > 10
    assert len(re.findall(r"<tr\b", listed)) == marked + 1


def test_the_dashboard_is_a_click_away(site):
    assert 'href="dashboard/index.html"' in (site / "benchmarks.html").read_text(encoding="utf-8")
    assert (site / "dashboard" / "index.html").exists()


def test_no_place_of_this_machine_is_on_a_page(site, pages):
    found = [
        f"{page}: {place}"
        for page in pages
        for place in re.findall(
            r"(?<![\w./~-])/(?:home|root|Users|tmp)/[\w./-]+", (site / page).read_text(encoding="utf-8")
        )
    ]
    assert found == []
