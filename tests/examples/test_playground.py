import re
import shutil
import socket
import sys
import time
import urllib.error
import urllib.request

import keras
import numpy as np
import pytest
import scripts
from helpers import small_capsnet
from PIL import Image

from keras_capsules import export

if keras.backend.backend() != "tensorflow":
    pytest.skip("SavedModels are TensorFlow's", allow_module_level=True)

playground = scripts.module("playground")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
# Chromium of its own accord asks for updates; a page in it must not ask for anything.
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]


@pytest.fixture(scope="module")
def address():
    """Where the page with the trained networks is."""
    with scripts.free_port() as port:
        pass  # Gradio wants it for itself
    command = [sys.executable, f"{scripts.EXAMPLES}playground.py", "--port", str(port)]
    url = f"http://127.0.0.1:{port}"
    with scripts.started(".", command) as (process,):
        while True:
            assert process.poll() is None, process.communicate()
            try:
                urllib.request.urlopen(url).close()
                break
            except urllib.error.URLError:
                time.sleep(0.5)
        yield url


@pytest.fixture
def page(address):
    """The page in a browser that reaches nothing else."""
    if CHROMIUM is None:
        pytest.skip("Chromium is not installed: apt-get install chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = browser.new_page(viewport={"width": 1400, "height": 900})
        asked = []
        page.on("request", lambda request: asked.append(request.url))
        page.goto(address)
        yield page
        browser.close()
        elsewhere = [url for url in asked if not url.startswith((address, "data:"))]
        assert not elsewhere


def draw(page, *strokes):
    paper = page.locator("#sketch svg")
    paper.hover()  # once nothing covers it
    box = paper.bounding_box()
    for stroke in strokes:
        points = [
            (box["x"] + x * box["width"], box["y"] + y * box["height"])
            for x, y in stroke
        ]
        page.mouse.move(*points[0])
        page.mouse.down()
        for point in points[1:]:
            page.mouse.move(*point, steps=5)
        page.mouse.up()


def read(page, digit, part="#lengths"):
    """Waits until a network reads this digit."""
    wanted = re.compile(f"^{digit}")
    page.locator(f"{part} .winner", has_text=wanted).wait_for()


def source(page, part):
    return page.locator(f"{part} img").get_attribute("src")


def changed(page, part, before):
    """Waits until a picture is another; its address."""
    page.wait_for_function(
        """([part, before]) => {
            const picture = document.querySelector(`${part} img`);
            return picture && picture.src != before;
        }""",
        arg=[part, before],
    )
    return source(page, part)


def test_draw_a_digit_and_move_its_pose(page):
    from playwright.sync_api import expect

    draw(page, [(0.65, 0.15), (0.4, 0.85)])
    read(page, 1)
    picture = changed(page, "#picture", None)
    draw(page, [(0.25, 0.15), (0.65, 0.15)])  # now it is a 7
    read(page, 7)
    picture = changed(page, "#picture", picture)
    assert page.locator("#capsule input:checked").get_attribute("value") == "7"

    slider = page.locator("#pose input[type=range]").nth(2)
    slider.focus()
    for _ in range(20):
        page.keyboard.press("ArrowRight")
    moved = changed(page, "#picture", picture)
    expect(slider).to_have_value("0.2")
    page.get_by_role("button", name="Reset the pose").click()
    changed(page, "#picture", moved)
    expect(slider).to_have_value("0")

    page.get_by_role("tab", name="EM routing").click()
    page.locator("#votes img").wait_for()
    read(page, 7, "#activations")
    page.get_by_role("button", name="Clear").click()
    page.locator("#activations .winner").wait_for(state="detached")


def test_pick_lay_over_and_upload(page, tmp_path):
    page.get_by_role("tab", name="Pick").click()
    page.locator("#gallery button").nth(3).click()
    read(page, 3)

    page.get_by_role("tab", name="Two at once").click()
    before = source(page, "#seen")
    page.get_by_role("button", name="Lay them over each other").click()
    both = changed(page, "#seen", before)

    page.get_by_role("tab", name="Upload").click()
    upload = page.locator("input[type=file]")
    Image.new("L", (30, 40)).save(tmp_path / "large.png")
    upload.set_input_files(tmp_path / "large.png")
    page.get_by_text("must have 28 × 28 pixels. This one has 30 × 40.").wait_for()
    assert source(page, "#seen") == both  # nothing is lost

    (tmp_path / "text.png").write_text("no picture")
    upload.set_input_files(tmp_path / "text.png")
    page.get_by_text("no picture that can be read").wait_for()
    assert source(page, "#seen") == both
    digits = playground.tiles(playground.HERE / "digits.png", playground.SIZE)
    Image.fromarray(255 - digits[5]).save(tmp_path / "five.png")
    upload.set_input_files(tmp_path / "five.png")
    read(page, 5)


def test_a_bar_for_each_class():
    html = playground.bars([0.1, 0.934, 0.2])
    assert html.count("<meter") == 3 and 'value="0.934"' in html
    assert re.findall('class="winner"><span>(.)<', html) == ["1"]


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_pixels_become_squares(dtype):
    picture = np.zeros((*playground.SIZE, 1), dtype)
    picture[1, 2] = 255 if dtype == "uint8" else 1.5
    found = playground.enlarged(picture)
    assert found.shape == (280, 280) and found.dtype == np.uint8
    assert (found[10:20, 20:30] == 255).all() and found.sum() == 100 * 255


def test_votes_of_every_iteration():
    shape = (3, 4, 7)  # iterations, classes, children
    trace = {name: np.random.rand(*shape) for name in ("distances", "weights")}
    trace["variances"] = np.random.rand(3, 4, 16)
    trace["activations"] = np.random.rand(3, 4)
    trace["activations"][-1, 2] = 2.0
    histogram, spread, activations = playground.votes(trace).axes
    assert histogram.get_title() == "votes for the 2"
    assert len(spread.lines) == len(activations.lines) == 4
    np.testing.assert_allclose(
        spread.lines[1].get_ydata(), np.sqrt(trace["variances"][:, 1].mean(-1))
    )


def test_what_is_no_savedmodel_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"is no SavedModel: it has no saved_model.pb"):
        playground.Network(tmp_path)
    (tmp_path / "saved_model.pb").write_bytes(b"something else")
    with pytest.raises(ValueError, match="is damaged"):
        playground.Network(tmp_path)
    without_decoder = small_capsnet(decoder_units=None)
    path = export.export_saved_model(without_decoder, tmp_path / "no_decoder")
    with pytest.raises(ValueError, match=r"lacks the signatures \['decode'\]"):
        playground.Network(path, "decode")
    with pytest.raises(ValueError, match=r"images \(28, 28, 1\)"):
        playground.Network(path)


def test_a_wrong_path_ends_the_program(tmp_path, monkeypatch):
    options = ["--port", "0", "--capsnet", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", ["playground.py", *options])
    with pytest.raises(SystemExit, match=f"{re.escape(str(tmp_path))} is no SavedM"):
        playground.main()


def test_a_port_that_is_taken(monkeypatch):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = str(taken.getsockname()[1])
        for wrong in (port, "99999"):
            monkeypatch.setattr(sys, "argv", ["playground.py", "--port", wrong])
            with pytest.raises(SystemExit, match=f"{wrong} .*another with --port"):
                playground.main()
