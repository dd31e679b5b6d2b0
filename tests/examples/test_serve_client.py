import base64
import json
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import keras
import numpy as np
import pytest
import scripts
from helpers import small_capsnet, small_matrix_capsnet
from PIL import Image

from keras_capsules import export
from keras_capsules.models.presets import preset_file

if keras.backend.backend() != "tensorflow":
    pytest.skip("SavedModels are TensorFlow's", allow_module_level=True)

import serving

from examples import playground, serve_client

PROGRAM = scripts.EXAMPLES / "serve_client.py"


@pytest.fixture(scope="module")
def capsnet():
    return small_capsnet()


@pytest.fixture(scope="module")
def server(capsnet, tmp_path_factory):
    path = export.export_saved_model(capsnet, tmp_path_factory.mktemp("model"))
    with serving.rest(path, "capsnet") as server:
        yield server


def pixels(model, count=3):
    return np.random.randint(0, 256, (count, *model.image_shape), "uint8")


def test_outputs_are_those_of_the_model(server, capsnet):
    client = serve_client.Client(server.url, "capsnet")
    assert client.versions() == {1: "AVAILABLE"}
    images = pixels(capsnet)
    expected = capsnet.predict(images / np.float32(255), verbose=0)
    outputs = client.predict("serving_uint8", images=images)
    assert outputs.keys() == {"scores", "classes", "poses"}
    for name in ("scores", "poses"):
        np.testing.assert_allclose(outputs[name], expected[name], atol=1e-5)
    pictures = client.predict("decode", poses=outputs["poses"], classes=[0, 1, 2])
    assert pictures.shape == images.shape
    assert server.requests[-1] == ("POST", "capsnet", None)


def test_trace_has_the_batch_first(tmp_path):
    model = small_matrix_capsnet()
    path = export.export_saved_model(model, tmp_path)
    with serving.rest(path, "matrix") as server:
        images = pixels(model, 2) / np.float32(255)
        body = json.dumps({"signature_name": "trace", "instances": images.tolist()})
        url = f"{server.url}/v1/models/matrix:predict"
        with urllib.request.urlopen(url, body.encode()) as response:
            rows = json.load(response)["predictions"]
    assert len(rows) == 2 and rows[0].keys() >= {"weights", "variances"}


def test_what_the_server_refuses_is_told(server, capsnet):
    client = serve_client.Client(server.url, "capsnet")
    with pytest.raises(ValueError, match=r"answers 400: .*shape"):
        client.predict("serving_uint8", images=np.zeros((1, 3, 3, 1), "uint8"))
    with pytest.raises(ValueError, match="other not found"):
        client.predict("other", images=pixels(capsnet))
    with pytest.raises(ValueError, match="not of type uint8"):
        client.predict("serving_uint8", images=pixels(capsnet) / 255)
    poses = client.predict("serving_uint8", images=pixels(capsnet, 1))["poses"]
    with pytest.raises(ValueError, match="answers 400"):
        client.predict("decode", poses=poses, classes=[99])
    with pytest.raises(ValueError, match="answers 404"):
        serve_client.Client(server.url, "nothing").versions()
    with pytest.raises(ValueError, match="must begin with http"):
        serve_client.Client("localhost:8501", "capsnet")
    with scripts.free_port() as port, pytest.raises(ConnectionError, match="No answer"):
        serve_client.Client(f"http://localhost:{port}", "capsnet").versions()


@pytest.mark.parametrize(
    "body",
    [
        "{",
        "[]",
        "{}",
        '{"instances": [], "inputs": []}',
        '{"instances": []}',
        '{"instances": [{"pictures": [[[0.0]]]}]}',
        '{"instances": [[[0.0, 1.0], [0.0]]]}',
        '{"instances": ["text"]}',
        '{"instances": [1], "signature_name": ["decode"]}',
    ],
)
def test_the_server_refuses_other_requests(server, body):
    url = f"{server.url}/v1/models/capsnet:predict"
    with pytest.raises(urllib.error.HTTPError, match="400"):
        urllib.request.urlopen(url, body.encode())
    with pytest.raises(urllib.error.HTTPError, match="400"):
        urllib.request.urlopen(f"{server.url}/v1/models/capsnet:other", b"{}")


def test_the_program_reads_digits(tmp_path):
    path = preset_file("capsnet_mnist_small").with_name("1")
    with serving.rest(path, "capsnet_mnist_small") as server:
        ask = [sys.executable, PROGRAM, "--url", server.url]
        done = subprocess.run(ask, capture_output=True, text=True, check=True)
        lines = done.stdout.splitlines()
        assert lines[0] == "capsnet_mnist_small, version 1: AVAILABLE"
        rows = [line.split() for line in lines[3:]]
        assert len(rows) == 20
        assert sum(row[2] == row[3] for row in rows) >= 19

        Image.new("L", (28, 28)).save(tmp_path / "small.png")
        Image.new("L", (30, 28)).save(tmp_path / "large.png")
        for files, message in (
            (["small.png", "large.png"], "must be of one size"),
            (["large.png"], "answers 400"),
            (["none.png"], "No such file"),
        ):
            done = subprocess.run(
                [*ask, *files], cwd=tmp_path, capture_output=True, text=True
            )
            assert done.returncode == 1 and "Traceback" not in done.stderr
            assert message in done.stderr


class _Answers(BaseHTTPRequestHandler):
    """Answers a GET and a POST with the bytes of the server's `answers`."""

    def do_GET(self):
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.asked.append((self.path, self.headers.get("Authorization")))
        answer = self.server.answers[self.command]
        try:
            for part in [answer] if isinstance(answer, bytes) else answer:
                self.wfile.write(part)
        except OSError:
            pass  # the client has had enough

    do_POST = do_GET

    def log_message(self, *args):
        pass


@pytest.fixture(scope="module")
def stranger():
    """A server that answers whatever a test tells it."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Answers)
    server.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def ask(stranger, monkeypatch, capsys):
    """Runs the program with the two answers; what it says, and how it ends."""

    def ask(state, prediction=b""):
        stranger.asked = []
        stranger.answers = {"GET": state, "POST": prediction}
        monkeypatch.setattr(sys, "argv", ["serve_client.py", "--url", stranger.url])
        try:
            serve_client.main()
        except SystemExit as end:
            return capsys.readouterr().out, end.code
        return capsys.readouterr().out, 0

    return ask


def http(body, status="200 OK", *headers):
    body = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + body


def state(**version):
    version = {"version": "1", "state": "AVAILABLE", **version}
    return http({"model_version_status": [version]})


def prediction(**outputs):
    good = {"scores": [[0.1] * 10] * 20, "classes": [3] * 20}
    return http({"outputs": {**good, **outputs}})


ENDS = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"
WRONG_STATES = {
    "garbage": http(b"\x00\xff\xfe"),
    "empty": http(b""),
    "null": http(None),
    "list": http([]),
    "number": http(3),
    "text": http("x"),
    "other keys": http({"models": []}),
    "no versions": http({"model_version_status": None}),
    "versions are text": http({"model_version_status": "abc"}),
    "version is text": state(version="x"),
    "version is infinite": http(b'{"model_version_status": [{"version": 1e999}]}'),
    "state is a number": state(state=3),
    "no state": http({"model_version_status": [{"version": 1}]}),
    "deep": http(b"[" * 200000),
    "not UTF-8": http(b'{"model_version_status": "\xff"}'),
    "long integer": http(b"9" * 10000),
    "500": http(b"boom" * 10**6, "500 Error"),
    "500 with escapes": http(b"\x1b[2Jboom\x07\n\nTwo lines", "500 Error"),
    "204": http(b"", "204 No Content"),
    "redirect": http(b"", "302 Found", "Location: /other"),
    "redirect to a file": http(b"", "302 Found", "Location: file:///etc/passwd"),
    "redirect to nowhere": http(b"", "301 Moved"),
    "half": b'HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{"a":',
    "wrong length": b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n{}",
    "wrong chunks": ENDS.encode(),
    "FTP": b"FTP\x1b whatever\r\n\r\n",
    "many headers": http(b"", "200 OK", *["X: y"] * 500),
    "long header": http(b"", "200 OK", "X: " + "y" * 200000),
    "nothing": b"",
}
WRONG_PREDICTIONS = {
    "500": http({"error": "no"}, "500 Error"),
    "error": http({"error": "not ready"}),
    "rows": http({"predictions": [1, 2]}),
    "no outputs": http({"outputs": None}),
    "text": http({"outputs": "x"}),
    "no classes": http({"outputs": {"scores": [[0.1] * 10] * 20}}),
    "one output": http({"outputs": [[0.1] * 10] * 20}),
    "fewer rows": prediction(scores=[[0.1] * 10] * 3, classes=[3] * 3),
    "more rows": prediction(scores=[[0.1] * 10] * 30, classes=[3] * 30),
    "rows differ": prediction(classes=[3] * 19),
    "class too high": prediction(classes=[10] * 20),
    "class too low": prediction(classes=[-1] * 20),
    "class is huge": prediction(classes=[10**400] * 20),
    "class is a fraction": prediction(classes=[3.0] * 20),
    "class is text": prediction(classes=["3"] * 20),
    "class is true": prediction(classes=[True] * 20),
    "class of a class": prediction(classes=[[3]] * 20),
    "ragged": prediction(scores=[[0.1] * 10] * 19 + [[0.1]]),
    "flat": prediction(scores=[0.1] * 20),
    "no scores": prediction(scores=[[]] * 20),
    "scores are text": prediction(scores=[["a"] * 10] * 20),
    "scores are null": prediction(scores=[[None] * 10] * 20),
    "nan": prediction(scores=[[float("nan")] * 10] * 20),
    "infinite": prediction(scores=[[float("inf")] * 10] * 20),
    "objects": prediction(scores={"\x1b[2J": 1}),
}


def one_line(code):
    return isinstance(code, str) and code.isprintable() and 0 < len(code) < 1000


@pytest.mark.parametrize("name", WRONG_STATES)
def test_a_wrong_state_is_one_line(ask, stranger, name):
    out, code = ask(WRONG_STATES[name])
    assert one_line(code) and out == ""
    assert len(stranger.asked) == 1  # no redirect was followed


@pytest.mark.parametrize("name", WRONG_PREDICTIONS)
def test_a_wrong_prediction_is_one_line(ask, name):
    out, code = ask(state(), WRONG_PREDICTIONS[name])
    assert one_line(code)
    assert out == "capsnet_mnist_small, version 1: AVAILABLE\n"


def test_a_right_answer_is_told_without_control_characters(ask):
    out, code = ask(state(state="\x1b[2JAVAILABLE\x07\ud800"), prediction())
    assert code == 0
    assert out.startswith(r"capsnet_mnist_small, version 1: \x1b[2JAVAILABLE\x07\ud800")
    assert out.count("      3  0.100\n") == 20


def test_an_answer_without_end_is_refused(ask, monkeypatch):
    monkeypatch.setattr(serve_client, "MAX_BYTES", 1000)
    _, code = ask(state(), http(b" " * 2000))
    assert "answers more than 1000 bytes" in code


@pytest.mark.parametrize(
    "start", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n"]
)
def test_an_answer_in_drops_is_refused_in_time(stranger, start):
    def drops():
        yield start
        for _ in range(100):
            time.sleep(0.05)
            yield b" "

    stranger.asked, stranger.answers = [], {"GET": drops()}
    client = serve_client.Client(stranger.url, "capsnet", seconds=0.3)
    with pytest.raises(ConnectionError, match=r"longer than 0\.3 s"):
        client.versions()


def test_addresses(stranger, monkeypatch):
    stranger.asked, stranger.answers = [], {"GET": state()}
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.delenv("no_proxy", raising=False)
    there = f"127.0.0.1:{stranger.server_port}"
    for url in (f"HTTP://{there}/", f"http://me:p%40ss@{there}/nets/"):
        client = serve_client.Client(url, "my net")
        assert client.versions() == {1: "AVAILABLE"}
        assert "me" not in client.url
    login = f"Basic {base64.b64encode(b'me:p@ss').decode()}"
    assert stranger.asked == [
        ("/v1/models/my%20net", None),
        ("/nets/v1/models/my%20net", login),
    ]
    client = serve_client.Client("http://[::1]:8501", "capsnet")
    assert client.url == "http://[::1]:8501/v1/models/capsnet"
    # What is not on this machine is asked for through the proxy.
    with pytest.raises(ConnectionError, match="Connection refused"):
        serve_client.Client("http://203.0.113.1", "capsnet", seconds=5).versions()


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd",
        "http://",
        "http://[::1",
        "http://host:99999",
        "http://host:port",
        "http://host?key=1",
        "http://me:secret@host:port",
    ],
)
def test_wrong_addresses(url):
    with pytest.raises(ValueError, match="`url` must begin with http://") as error:
        serve_client.Client(url, "capsnet")
    assert "secret" not in str(error.value)


@pytest.mark.parametrize("dark", [True, False])
@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16"])
def test_the_page_reads_pictures_likewise(mode, dark):
    grey = np.zeros((28, 28), "uint8") if dark else np.full((28, 28), 255, "uint8")
    grey[5:20, 9:17] = np.random.default_rng(0).integers(0, 256, (15, 8))
    picture = Image.fromarray(grey)
    if mode == "I;16":
        picture = Image.fromarray(grey.astype("uint16") * 257)
    elif mode.endswith("A"):
        picture.putalpha(Image.fromarray(grey[::-1].copy()))
    picture = picture.convert(mode)
    client, page = (
        module.light_on_dark(picture) for module in (serve_client, playground)
    )
    np.testing.assert_array_equal(client, page)
    assert client.dtype == page.dtype == np.uint8


def test_the_page_takes_the_same_formats():
    assert serve_client.FORMATS == playground.FORMATS


def test_pictures_are_bounded_before_they_are_decoded(tmp_path, monkeypatch):
    file = tmp_path / "large\x1b.png"
    Image.new("1", (1000, 2000)).save(file)
    monkeypatch.setattr(Image.Image, "convert", None)  # nothing is decoded
    with pytest.raises(
        ValueError, match=r"large\\x1b.png has 1000 × 2000 pixels, more"
    ):
        serve_client.read([file])
    file.write_bytes(file.read_bytes()[:30])
    with pytest.raises(ValueError, match=r"large\\x1b.png is no picture"):
        serve_client.read([file])


def test_a_picture_is_turned_as_its_camera_was_held(tmp_path):
    turned = Image.Exif()
    turned[0x112] = 6  # a quarter to the right
    picture = np.zeros((4, 6), "uint16")
    picture[0, 0] = 65535
    Image.fromarray(picture).save(tmp_path / "turned.png", exif=turned)
    found = serve_client.read([tmp_path / "turned.png"])
    assert found.shape == (1, 6, 4, 1) and found.dtype == np.uint8
    assert found[0, 0, 3, 0] == 255 and found.sum() == 255
