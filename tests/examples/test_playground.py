import base64
import io
import os
import re
import shutil
import socket
import struct
import sys
import time
import urllib.error
import urllib.request
import zlib
from pathlib import Path
from types import SimpleNamespace
from xml.etree import ElementTree

import keras
import numpy as np
import pytest
import scripts
from helpers import small_capsnet
from PIL import Image

from keras_capsules import export

if keras.backend.backend() != "tensorflow":
    pytest.skip("SavedModels are TensorFlow's", allow_module_level=True)

import gradio as gr
import tensorflow as tf

from benchmarks import page as benchmark
from examples import playground

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
# Chromium of its own accord asks for updates; a page in it must not ask for anything.
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    """Where the page with the trained networks is."""
    with scripts.free_port() as port:
        pass  # Gradio wants it for itself
    command = [sys.executable, scripts.EXAMPLES / "playground.py", "--port", str(port)]
    url = f"http://127.0.0.1:{port}"
    folder = {"TMPDIR": str(tmp_path_factory.mktemp("page"))}
    with scripts.started(".", command, environments=[folder]) as (process,):
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
    assert page.locator("#votes svg").count() == 3
    read(page, 7, "#activations")
    page.get_by_role("button", name="Clear").click()
    page.locator("#activations .winner").wait_for(state="detached")


def test_pick_lay_over_and_upload(page, tmp_path):
    page.get_by_role("tab", name="Pick").click()
    page.locator("#gallery button").nth(3).click()
    read(page, 3)

    page.get_by_role("tab", name="Two at once").click()
    before = source(page, "#seen")
    page.get_by_role("button", name="Overlay the digits").click()
    both = changed(page, "#seen", before)

    page.get_by_role("tab", name="Upload").click()
    upload = page.locator("input[type=file]")
    Image.new("1", (9000, 9000)).save(tmp_path / "large.png")
    upload.set_input_files(tmp_path / "large.png")
    page.get_by_text("at most 16777216 pixels. This one has 9000 × 9000.").wait_for()
    assert source(page, "#seen") == both  # nothing is lost

    (tmp_path / "text.png").write_text("no picture")
    upload.set_input_files(tmp_path / "text.png")
    page.get_by_text("no picture that can be read").wait_for()
    assert source(page, "#seen") == both

    (tmp_path / "heavy.png").write_bytes(bytes(playground.MAX_BYTES + 1))
    upload.set_input_files(tmp_path / "heavy.png")
    page.get_by_text("exceed the maximum allowed size").wait_for()
    digits = playground.tiles(playground.HERE / "digits.png", playground.SIZE)
    paper = Image.new("RGB", (900, 700), "wheat")
    paper.paste(Image.fromarray(255 - digits[5]).resize((300, 300)), (400, 200))
    paper.save(tmp_path / "five.png")
    upload.set_input_files(tmp_path / "five.png")
    read(page, 5)


def test_a_bar_for_each_class():
    html = playground.bars([0.1, 0.934, 0.2])
    assert html.count("<meter") == 3 and 'value="0.934"' in html
    assert re.findall('class="winner"><span>(.)<', html) == ["1"]


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_a_picture_stands_in_the_page(dtype):
    picture = np.zeros((*playground.SIZE, 1), dtype)
    picture[1, 2] = 255 if dtype == "uint8" else 1.5
    html = playground.shown(picture)
    data = re.fullmatch('<img class="pixels" src="data:image/png;base64,(.*)">', html)
    found = np.asarray(Image.open(io.BytesIO(base64.b64decode(data[1]))))
    assert found.shape == (28, 28) and found[1, 2] == 255 and found.sum() == 255


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1]),
        (1.36, 1.91, [1.4, 1.5, 1.6, 1.7, 1.8, 1.9]),
        (0, 10.4, [0, 2, 4, 6, 8, 10]),
        (-3e-4, 4e-4, [-2e-4, 0, 2e-4, 4e-4]),
        (2, 2, [2]),
    ],
)
def test_ticks_are_round(low, high, expected):
    np.testing.assert_allclose(playground.ticks(low, high), expected, atol=1e-12)


def lines_of(chart):
    """The points of the lines of a chart, and which of them are blue."""
    lines = chart.findall("polyline")
    points = [
        np.array([point.split(",") for point in line.get("points").split()], float)
        for line in lines
    ]
    return points, [line.get("class") for line in lines]


def test_a_chart_has_its_lines_within_its_axes():
    lines = [
        (np.array([[1.0, 5.0], [3.0, 9.0]]), 1, ""),
        (np.array([[1.0, 7.0], [2.0, 5.0]]), 3, ""),
    ]
    svg = playground.chart("a title", "a label", lines, whole=True)
    chart = ElementTree.fromstring(svg)
    (first, second), blue = lines_of(chart)
    assert blue == [None, "winner"]
    np.testing.assert_allclose(first, [[45, 230], [345, 30]])
    np.testing.assert_allclose(second, [[45, 130], [195, 230]])
    texts = [text.text for text in chart.findall("text")]
    assert texts[:5] == ["a title", "a label", "1", "2", "3"]
    flat = playground.chart("", "", [(np.ones((2, 2)), 1, "")])
    assert "nan" not in flat and "inf" not in flat


def test_votes_of_every_iteration():
    shape = (3, 4, 7)  # iterations, classes, children
    trace = {name: np.random.rand(*shape) for name in ("distances", "weights")}
    trace["variances"] = np.random.rand(3, 4, 16)
    trace["activations"] = np.random.rand(3, 4)
    trace["activations"][-1, 2] = 2.0
    html = ElementTree.fromstring(playground.votes(trace))
    histogram, spread, activations = html
    assert histogram.find("text").text == "votes for the 2"
    points, _ = lines_of(histogram)
    assert [len(line) for line in points] == [62] * 3
    for chart, values in (
        (spread, np.sqrt(trace["variances"].mean(-1))),
        (activations, trace["activations"]),
    ):
        points, blue = lines_of(chart)
        assert blue == [None, None, "winner", None]
        span = values.max() - values.min()
        heights = 230 - 200 * (values.T - values.min()) / span  # (classes, iterations)
        np.testing.assert_allclose(np.stack(points)[..., 1], heights, atol=0.06)


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


def test_a_network_without_em_routing_has_no_votes_to_show():
    poses = tf.TensorSpec((None, 10, 16))
    signatures = {
        "decode": SimpleNamespace(structured_input_signature=((), {"poses": poses})),
        "trace": SimpleNamespace(structured_outputs={"weights": None}),
    }
    network = SimpleNamespace(model=SimpleNamespace(signatures=signatures))
    with pytest.raises(ValueError, match="must be a network with EM routing"):
        playground.build(network, network, np.zeros((20, 28, 28), "uint8"))


def test_what_is_not_finite_is_refused():
    network = object.__new__(playground.Network)
    lost = {"serving_uint8": lambda images: {"scores": np.nan * images}}
    network.model = SimpleNamespace(signatures=lost)
    with pytest.raises(gr.Error, match="numbers that are not finite"):
        network.ask("serving_uint8", images=np.ones((28, 28, 1), "float32"))


def test_nothing_is_left_behind(monkeypatch):
    launched = {}

    class Page:
        def launch(self, **options):
            folder = Path(os.environ["GRADIO_TEMP_DIR"])
            (folder / "uploaded.png").touch()
            launched.update(options, folder=folder)

    monkeypatch.setenv("GRADIO_TEMP_DIR", "")
    monkeypatch.setattr(playground, "Network", lambda *args: None)
    monkeypatch.setattr(playground, "build", lambda *args: Page())
    with scripts.free_port() as port:
        pass
    monkeypatch.setattr(sys, "argv", ["playground.py", "--port", str(port)])
    playground.main()
    assert launched["max_file_size"] == playground.MAX_BYTES
    assert not launched["folder"].exists()


def test_a_wrong_path_ends_the_program(tmp_path, monkeypatch):
    options = ["--port", "0", "--capsnet", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", ["playground.py", *options])
    with pytest.raises(SystemExit, match=f"{re.escape(str(tmp_path))} is no SavedM"):
        playground.main()


def test_a_port_that_is_taken(monkeypatch):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
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


@pytest.mark.parametrize(
    "strokes",
    [
        5,
        "text",
        {"0": 1},
        [[]],
        [[0.5, 0.5]],
        [[(0.5,)]],
        [[(0.1, 0.2), (0.3, float("nan"))]],
        [[(0.1, 1e9)]],
        [[(0.1, 10**400)]],
        [[("a", "b")]],
        [[None]],
        [[(0.5, 0.5)] * (playground.POINTS + 1)],
    ],
)
def test_what_is_no_drawing_is_refused(strokes):
    with pytest.raises(gr.Error, match=r"^'A (drawing|stroke) must"):
        playground.drawn(strokes)


def test_no_drawing_is_an_empty_paper():
    assert not playground.drawn(None).any()


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


def test_pictures_of_other_kinds_become_light_on_dark(tmp_path):
    """Black strokes on white paper, two pixels by two."""
    grey = np.full((6, 8), 255, "uint8")
    grey[2:4, 3:5] = 0
    picture = Image.fromarray(grey)
    deep = Image.fromarray(grey.astype("uint16") * 257)
    clear = Image.fromarray(np.stack([grey, 255 - grey], -1), "LA")
    other = Image.fromarray(255 - grey)
    animated = {"save_all": True, "append_images": [other, other]}
    for name, kind, options in (
        ("deep.png", deep, {}),
        ("deep.tiff", deep, {}),
        ("deep.pgm", deep, {}),
        ("clear_deep.png", deep, {"transparency": 65535}),
        ("clear_grey.png", picture, {"transparency": 255}),
        ("clear.png", clear, {}),
        ("clear_palette.png", picture.convert("P"), {"transparency": 255}),
        ("palette.png", picture.convert("RGB").quantize(2), {}),
        ("animated.gif", picture, animated),
        ("animated.png", picture, animated),
        ("animated.webp", picture.convert("RGB"), {**animated, "lossless": True}),
        ("ink.jpg", picture.convert("RGB").convert("CMYK"), {"quality": 100}),
        ("ink.tiff", picture.convert("RGB").convert("CMYK"), {}),
    ):
        kind.save(tmp_path / name, **options)
        found = playground.light_on_dark(Image.open(tmp_path / name))
        np.testing.assert_array_equal(found, 255 - grey, err_msg=name)


def test_light_strokes_on_nothing_stay_light():
    picture = np.zeros((6, 8, 2), "uint8")
    picture[2:4, 3:5] = 255
    found = playground.light_on_dark(Image.fromarray(picture, "LA"))
    np.testing.assert_array_equal(found, picture[..., 0])


@pytest.mark.parametrize(
    ("angle", "corner"), [(3, (27, 27)), (6, (0, 27)), (8, (27, 0))]
)
def test_a_turned_upload_is_put_upright(tmp_path, angle, corner):
    exif = Image.Exif()
    exif[0x112] = angle
    picture = np.zeros(playground.SIZE, "uint16")
    picture[0, 0] = 65535
    Image.fromarray(picture).save(tmp_path / "turned.png", exif=exif)
    found = playground.uploaded(tmp_path / "turned.png")
    assert found[corner] == 255 and found.sum() == 255


def png(width, height, *chunks):
    """A grey image file whose pixels are missing."""

    def chunk(name, data):
        body = name + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    chunks = [(b"IHDR", header), *chunks, (b"IDAT", zlib.compress(b"")), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in chunks)


def tiles_of_tiff(width, height):
    """An image file of 28 × 28 pixels in a tile of another size."""
    pairs = {256: 28, 257: 28, 258: 8, 259: 8, 262: 1, 277: 1, 322: width, 323: height}
    pairs |= {324: 8, 325: 12}
    tags = b"".join(
        struct.pack("<HHII", tag, 4, 1, pairs[tag]) for tag in sorted(pairs)
    )
    head = b"II*\0" + struct.pack("<I", 20) + bytes(12)
    return head + struct.pack("<H", len(pairs)) + tags + bytes(4)


UPLOADS = {
    "wide": (png(13000, 13000), "16777216 pixels. This one has 13000 × 13000"),
    "wider": (png(20000, 20000), "no picture that can be read"),
    "long text": (
        png(28, 28, (b"zTXt", b"Comment\0\0" + zlib.compress(bytes(10**7)))),
        "no picture that can be read",
    ),
    "heavy": (bytes(playground.MAX_BYTES + 1), "must have at most 16777216 bytes"),
    "no pixels": (png(28, 28), "no picture that can be read"),
    "no width": (png(0, 28), "no picture that can be read"),
    "large tiles": (tiles_of_tiff(20000, 20000), "no picture that can be read"),
    "program": (
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 28 28\n%%EOF\n",
        "no picture that can be read",
    ),
    "empty": (b"", "no picture that can be read"),
    "text": (b"no picture", "no picture that can be read"),
    "wide frame": (
        b"GIF89a" + struct.pack("<HH", 28, 28) + bytes(3) + b","
        + struct.pack("<HHHHB", 0, 0, 9000, 9000, 0) + b"\x02\x02\x44\x01\x00;",
        "This one has 9000 × 9000",
    ),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("name", UPLOADS)
def test_a_wrong_upload_is_refused_before_it_is_decoded(tmp_path, monkeypatch, name):
    data, message = UPLOADS[name]
    (tmp_path / "upload").write_bytes(data)
    if name != "no pixels":
        monkeypatch.setattr(Image.Image, "transpose", None)
        monkeypatch.setattr(Image.Image, "convert", None)
    with pytest.raises(gr.Error, match=message):
        playground.uploaded(tmp_path / "upload")


@pytest.mark.parametrize("mode", ["L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16"])
def test_a_photograph_becomes_what_the_network_knows(tmp_path, mode):
    digit = playground.tiles(playground.HERE / "digits.png", playground.SIZE)[3]
    # Dark ink on paper that is not white, off the centre.
    paper = np.full((900, 700), 235, "uint8")
    ink = Image.fromarray(digit).resize((400, 400))
    paper[450:850, 30:430] -= (np.asarray(ink) * 0.8).astype("uint8")
    picture = Image.fromarray(paper)
    if mode == "I;16":
        picture = Image.fromarray(paper.astype("uint16") * 257)
    elif mode != "L":
        picture = picture.convert(mode)
    picture.save(tmp_path / "photo.tiff")
    found = playground.uploaded(tmp_path / "photo.tiff")
    assert found.shape == playground.SIZE and found.dtype == np.uint8
    close = np.corrcoef(
        found.ravel(), playground.centred(digit, playground.SIZE).ravel()
    )
    assert close[0, 1] > 0.9


def test_an_empty_paper_shows_nothing(tmp_path):
    rng = np.random.default_rng(0)
    paper = rng.integers(220, 240, (300, 200, 3), "uint8")
    Image.fromarray(paper).save(tmp_path / "paper.png")
    assert playground.uploaded(tmp_path / "paper.png") is None


def test_an_upload_that_is_not_there_is_refused(tmp_path):
    for nothing in (None, tmp_path, tmp_path / "nothing.png"):
        with pytest.raises(gr.Error, match="no picture that can be read"):
            playground.uploaded(nothing)


@pytest.mark.parametrize("dtype", ["int32", "float32"])
def test_values_of_more_than_16_bits_are_refused(tmp_path, dtype):
    picture = np.full(playground.SIZE, 70000, dtype)
    Image.fromarray(picture).save(tmp_path / "deep.tiff")
    with pytest.raises(gr.Error, match="it must be of 8 or 16 bits"):
        playground.uploaded(tmp_path / "deep.tiff")


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


def test_people_who_draw_at_once_all_get_answers(address):
    assert len(benchmark.waits(address, people=3, strokes=2)) == 6
