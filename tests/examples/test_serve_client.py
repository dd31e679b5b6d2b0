import json
import subprocess
import sys
import urllib.error
import urllib.request

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

from examples import serve_client

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
