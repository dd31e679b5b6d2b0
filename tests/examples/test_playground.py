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

from examples import playground

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
# Chromium of its own accord asks for updates; a page in it must not ask for anything.
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]


@pytest.fixture(scope="module")
def address():
    """Where the page with the trained networks is."""
    with scripts.free_port() as port:
        pass  # Gradio wants it for itself
    command = [sys.executable, scripts.EXAMPLES / "playground.py", "--port", str(port)]
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


def test_strokes_are_round_lines():
    sheet = playground.drawn([[(0.25, 0.5), (0.75, 0.5)], [(0.5, 0.9)]], side=100)
    assert sheet.shape == (100, 100) and sheet.dtype == np.uint8
    assert (sheet[50, 25:76] == 255).all() and sheet[90, 50] == 255
    assert not sheet[:40].any() and not sheet[:, :19].any()
    assert playground.drawn([]).sum() == 0


def centre(picture):
    mass = picture / picture.sum()
    rows, columns = (np.arange(side) for side in picture.shape)
    return mass.sum(1) @ rows, mass.sum(0) @ columns


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA"])
@pytest.mark.parametrize("ground", [0, 255])
def test_pictures_of_every_kind_become_light_on_dark(mode, ground):
    grey = np.full((6, 8), ground, "uint8")
    grey[2:4, 3:5] = 255 - ground
    found = playground.light_on_dark(Image.fromarray(grey).convert(mode))
    assert found.shape == (6, 8) and found.dtype == np.uint8
    assert (found[2:4, 3:5] == 255).all() and found.sum() == 4 * 255


def test_what_is_transparent_is_paper():
    picture = np.zeros((5, 5, 4), "uint8")
    picture[2, 2, 3] = 255
    found = playground.light_on_dark(Image.fromarray(picture))
    assert found[2, 2] == 255 and found.sum() == 255


@pytest.mark.parametrize("shape", [(200, 50), (30, 90), (3, 3)])
def test_a_drawing_is_scaled_and_centred(shape):
    paper = np.zeros((280, 280), "uint8")
    paper[10 : 10 + shape[0], 170 : 170 + shape[1]] = 255
    found = playground.centred(paper, playground.SIZE)
    assert found.shape == playground.SIZE and found.dtype == np.uint8
    rows, columns = (np.nonzero(found.any(axis))[0] for axis in (1, 0))
    assert max(len(rows), len(columns)) == 20
    np.testing.assert_allclose(centre(found), 13.5, atol=0.5)


def test_the_mass_is_centred_and_nothing_cut_off():
    paper = np.zeros((280, 280), "uint8")
    paper[:200, 100:110] = 255
    paper[:30, 50:160] = 255  # a T, heavier above
    found = playground.centred(paper, playground.SIZE)
    rows = np.nonzero(found.any(1))[0]
    assert len(rows) == 20 and rows[0] > 4
    assert playground.centred(np.zeros((280, 280), "uint8"), playground.SIZE) is None


@pytest.mark.parametrize("shift", [-9, 0, 8])
def test_two_digits_over_each_other(shift):
    first, second = np.zeros((2, *playground.SIZE), "uint8")
    first[5, 14], second[20, 14] = 200, 100
    both = playground.overlapping(first, second, shift)
    assert both.dtype == np.uint8 and both.sum() == 300
    assert np.argmax(both[20]) - np.argmax(both[5]) == shift
    assert playground.overlapping(first, first, 0)[5, 14] == 255
    first[:, 0] = 50
    assert not playground.overlapping(first, second, 10)[:, -1].any()


def test_tiles_of_a_sheet(tmp_path):
    tiles = np.random.randint(0, 256, (6, *playground.SIZE), "uint8")
    sheet = np.vstack([np.hstack(tiles[:3]), np.hstack(tiles[3:])])
    Image.fromarray(sheet).save(tmp_path / "sheet.png")
    found = playground.tiles(tmp_path / "sheet.png", playground.SIZE)
    np.testing.assert_array_equal(found, tiles)
