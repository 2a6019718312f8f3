"""The pages in headless Chromium: on a phone and on a desk, light and dark."""

from __future__ import annotations

import os
import re
import shutil

import pytest

from ssljax import study
from ssljax.settings import config_files
from ssljax.settings.printable import printable
from tests import hostile, references
from tests.conftest import REPOSITORY
from tests.test_hostile_names import page_of

pytestmark = pytest.mark.reference

webdriver = references.load("selenium.webdriver")
service = references.load("selenium.webdriver.chrome.service")

SIZES = (390, 1200)
PAPER = {"light": 255, "dark": 21}  # red of the background
PAGES = ("report.html", "seed-0/pretext-puzzle/report.html", "seed-0/arm-random/report.html")


@pytest.fixture(scope="module")
def driver():
    chromium, chromedriver = shutil.which("chromium"), shutil.which("chromedriver")
    if not (chromium and chromedriver):
        missing = "chromium and its driver are not installed: apt-get install chromium-driver"
        if os.environ.get("SSLJAX_REFERENCES") == "required":
            pytest.fail(missing)
        pytest.skip(missing)
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=service.Service(chromedriver))
    yield driver
    driver.quit()


@pytest.fixture(scope="module")
def folder(data_dir, tmp_path_factory):
    """A study of two short runs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(REPOSITORY)
        config = config_files.load(f"{REPOSITORY}/tests/tiny_study.py")
        for run in (config.pretexts.puzzle, config.classification):
            run.data.data_dir = data_dir
            run.probes.map_images = 500
        del config.arms.imagenet, config.arms.puzzle
        folder = tmp_path_factory.mktemp("browser") / "a study"
        study(config, folder)
    return folder


def show(driver, page, width: int, scheme: str) -> None:
    driver.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 600},
    )
    driver.execute_cdp_cmd(
        "Emulation.setEmulatedMedia",
        {"features": [{"name": "prefers-color-scheme", "value": scheme}]},
    )
    driver.get(page.as_uri())


def colours(driver, selector: str, property: str) -> list[tuple[int, ...]]:
    """(red, green, blue) of a CSS property of all elements that a selector chooses."""
    found = driver.execute_script(
        f"return [...document.querySelectorAll({selector!r})]"
        f".map(element => getComputedStyle(element)[{property!r}])"
    )
    return [tuple(map(int, re.findall(r"\d+", colour)[:3])) for colour in found]


@pytest.mark.parametrize("scheme", PAPER)
@pytest.mark.parametrize("width", SIZES)
@pytest.mark.parametrize("page", PAGES)
def test_a_page_fits_and_can_be_read(driver, folder, page, width, scheme):
    show(driver, folder / page, width, scheme)
    inner, widest = driver.execute_script(
        "return [innerWidth, document.documentElement.scrollWidth]"
    )
    assert widest <= inner == width
    [paper] = colours(driver, "body", "backgroundColor")
    assert paper[0] == PAPER[scheme]
    texts = colours(driver, "body, h1, td, .note, figcaption", "color")
    texts += colours(driver, "svg text", "fill")
    assert len(texts) > 50
    assert min(contrast(paper, text) for text in set(texts)) > 4.5
    lines = colours(driver, "svg [id^=line2d] > path[clip-path]", "stroke")
    assert lines
    grid = colours(driver, "table td", "borderBottomColor")[0]
    assert min(contrast(paper, line) for line in set(lines) - {grid}) > 3
    broken = driver.execute_script(
        "return [...document.images].filter(image => !image.complete || !image.naturalWidth).length"
    )
    assert broken == 0
    assert driver.execute_script("return document.images.length") > 5
    assert driver.get_log("browser") == []


def contrast(one: tuple[int, ...], other: tuple[int, ...]) -> float:
    """The contrast ratio of WCAG 2.2."""
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def luminance(colour: tuple[int, ...]) -> float:
    shares = (part / 255 for part in colour)
    linear = [s / 12.92 if s <= 0.04045 else ((s + 0.055) / 1.055) ** 2.4 for s in shares]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_the_page_of_a_study_leads_to_those_of_its_runs(driver, folder):
    show(driver, folder / "report.html", 1200, "light")
    links = driver.execute_script("return [...document.links].map(link => link.href)")
    assert sorted(links) == sorted((folder / page).as_uri() for page in PAGES[1:])
    driver.execute_script("document.links[0].click()")
    assert driver.title.endswith("jigsaw on fashion_mnist_10k")
    assert driver.get_log("browser") == []


def test_a_dot_of_the_map_shows_its_image_and_class(driver, folder):
    show(driver, folder / "report.html", 1200, "dark")
    assert driver.execute_script("return document.querySelector('.tip').hidden")
    for index in (0, 41, 99):  # of the second map, in the first, second and third row of the sheet
        dot = f"document.querySelectorAll('.map')[1].querySelector('[data-image=\"{index}\"]')"
        driver.execute_script(f"{dot}.scrollIntoView({{block: 'center'}})")
        driver.execute_script(
            f"{dot}.dispatchEvent(new PointerEvent('pointerover', {{bubbles: true}}))"
        )
        place, name, label, hidden = driver.execute_script(
            "const tip = document.querySelector('.tip'); return ["
            "getComputedStyle(tip.querySelector('.thumbnail')).backgroundPosition,"
            f"tip.querySelector('.name').textContent, {dot}.dataset.class, tip.hidden]"
        )
        assert not hidden
        assert place == f"{-36 * (index % 40)}px {-36 * (index // 40)}px"
        assert name == driver.execute_script(
            f"return document.querySelectorAll('.classes span')[{label}].textContent"
        )
    driver.execute_script(
        "document.body.dispatchEvent(new PointerEvent('pointerover', {bubbles: true}))"
    )
    assert driver.execute_script("return document.querySelector('.tip').hidden")
    assert driver.get_log("browser") == []


def test_an_open_page_shows_what_is_written_meanwhile(driver, folder, tmp_path):
    text = (folder / PAGES[1]).read_text()
    page = tmp_path / "report.html"
    reload = '<meta charset="utf-8"><meta http-equiv="refresh" content="1">'
    page.write_text(text.replace('<meta charset="utf-8">', reload))
    show(driver, page, 390, "light")
    driver.execute_script("scrollTo(0, 700)")
    page.write_text(text.replace("<title>", "<title>next "))
    wait = references.load("selenium.webdriver.support.wait").WebDriverWait(driver, 10)
    wait.until(lambda driver: driver.title.startswith("next "))
    wait.until(lambda driver: driver.execute_script("return scrollY") == 700)


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        (hostile.IMAGE, hostile.IMAGE), (hostile.MARKUP, hostile.MARKUP),
        (hostile.INVISIBLE, printable(hostile.INVISIBLE)), (hostile.LONG, "longx"),
    ],
    ids=["image", "markup", "invisible", "long"],
)  # fmt: skip
def test_names_from_strangers_do_nothing_on_a_page(driver, tmp_path, name, shown):
    page = tmp_path / "report.html"
    page.write_text(page_of(name, tmp_path))
    show(driver, page, 390, "light")
    assert driver.title.startswith(f"ssljax study: {shown}")
    assert driver.find_element("tag name", "h1").text.startswith(shown)
    text = driver.execute_script("return document.body.textContent")
    assert text.count(shown) > 20
    assert not hostile.acting(text)
    assert driver.execute_script("return [document.scripts.length, typeof ran]") == [1, "undefined"]
    attributes = driver.execute_script(
        "return [...document.querySelectorAll('*')].flatMap(each => each.getAttributeNames())"
    )
    assert not [attribute for attribute in attributes if attribute.startswith("on")]
    sources = driver.execute_script("return [...document.images].map(image => image.src)")
    assert all(source.startswith("data:image/") for source in sources)
    inner, widest = driver.execute_script(
        "return [innerWidth, document.documentElement.scrollWidth]"
    )
    assert widest <= inner
    assert driver.get_log("browser") == []


def test_a_page_runs_no_other_script_and_loads_nothing(driver, folder):
    show(driver, folder / "report.html", 1200, "light")
    driver.execute_script(
        "document.body.insertAdjacentHTML('beforeend', `<img src=x onerror='ran = 1'>"
        "<a id=other href='javascript:ran = 2'>x</a>`);"
        "const script = document.createElement('script'); script.textContent = 'ran = 3';"
        "document.body.append(script); document.querySelector('#other').click()"
    )
    wait = references.load("selenium.webdriver.support.wait").WebDriverWait(driver, 10)
    said: list[str] = []

    def all_refused(driver) -> bool:
        said.extend(entry["message"] for entry in driver.get_log("browser"))
        return len(said) >= 4

    wait.until(all_refused)
    assert all("Content Security Policy" in message for message in said)
    assert driver.execute_script("return typeof ran") == "undefined"
