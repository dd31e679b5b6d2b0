"""Classifies images with a network in TensorFlow Serving, over its REST API.

    docker run -d --rm -p 8501:8501 -v "$PWD/saved_models:/models" \\
        -e MODEL_NAME=capsnet_mnist_small tensorflow/serving
    python examples/serve_client.py
    python examples/serve_client.py mine.png --url http://localhost:8501

It needs NumPy and Pillow, but neither TensorFlow nor the package.
"""

import argparse
import base64
import http.client
import json
import queue
import sys
import threading
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

DIGITS = Path(__file__).parent / "digits.png"
# The largest response. Its Python lists take many times as much memory.
MAX_BYTES = 2**25
# The largest picture. The size is checked before the picture is decoded.
MAX_PIXELS = 2**20
# Pillow also reads EPS files, but starts Ghostscript for it.
FORMATS = ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM")


def printable(text, length=300):
    """Returns the beginning of a text, with control characters escaped."""
    text = str(text)[:length]
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def within(seconds, function, *args):
    """Calls a function with a time limit.

    Args:
        seconds: the time limit.
        function: the function.
        *args: its arguments.

    Returns:
        The result of the function.

    Raises:
        TimeoutError: the function takes longer.
    """
    results = queue.SimpleQueue()

    def run():
        try:
            results.put((function(*args), None))
        except Exception as error:
            results.put((None, error))

    threading.Thread(target=run, daemon=True).start()
    try:
        result, error = results.get(timeout=seconds)
    except queue.Empty:
        raise TimeoutError(f"it takes longer than {seconds} s") from None
    if error is not None:
        raise error
    return result


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *args):
        return None


class Client:
    """A client for one network of a server.

    Args:
        url: URL of the server, such as `http://localhost:8501`. A path in it becomes a
            prefix of the path of the network. A user name and password in it are sent
            as basic authentication.
        model: name of the network on the server.
        seconds: time limit for a complete response.

    Raises:
        ValueError: `url` is no URL of a server.
    """

    def __init__(self, url, model, seconds=60):
        try:
            parts = urllib.parse.urlsplit(url)
            wrong = parts.scheme not in ("http", "https") or not parts.hostname
            wrong = wrong or parts.port == 0 or parts.query or parts.fragment
        except ValueError:  # of the port or of an IPv6 address
            wrong = True
        if wrong:
            raise ValueError(
                "`url` must begin with http:// or https://, name a host and hold no "
                f"query. Received: url={printable(url.rpartition('@')[2])}"
            )
        login, _, host = parts.netloc.rpartition("@")
        path = f"{parts.path.rstrip('/')}/v1/models/{urllib.parse.quote(model)}"
        self.url = f"{parts.scheme}://{host}{path}"
        self.seconds = seconds
        self._headers = {"Content-Type": "application/json"}
        if login:
            login = base64.b64encode(urllib.parse.unquote(login).encode())
            self._headers["Authorization"] = f"Basic {login.decode()}"
        # A proxy from the environment could not reach this machine.
        here = parts.hostname in ("localhost", "127.0.0.1", "::1")
        proxy = urllib.request.ProxyHandler({} if here else None)
        self._opener = urllib.request.build_opener(_NoRedirects, proxy)

    def versions(self):
        """Returns the state of each version of the network.

        Returns:
            A dict of version numbers and states. A version in the state `"AVAILABLE"`
            can be used.

        Raises:
            ConnectionError: the server does not respond, or not in time.
            ValueError: the server refuses the request, or its response is malformed.
        """
        status = self._ask(self.url, "model_version_status")
        try:
            states = {int(str(row["version"])): row["state"] for row in status}
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{self.url} answers no versions") from error
        if not all(isinstance(state, str) for state in states.values()):
            raise ValueError(f"{self.url} answers states that are no text")
        return states

    def predict(self, signature, **inputs):
        """Returns the outputs of a signature.

        Args:
            signature: name of the signature.
            **inputs: arrays by name; the first axis is the batch.

        Returns:
            A dict of arrays by name, whose first axis is the batch. For a signature
            with one output, the array itself.

        Raises:
            ConnectionError: the server does not respond, or not in time.
            ValueError: the server refuses the request, or its response is malformed.
        """
        inputs = {name: np.asarray(value) for name, value in inputs.items()}
        lists = {name: value.tolist() for name, value in inputs.items()}
        body = {"signature_name": signature, "inputs": lists}
        outputs = self._ask(f"{self.url}:predict", "outputs", body)
        batches = {value.shape[:1] for value in inputs.values()}
        if not isinstance(outputs, dict):
            return self._array("outputs", outputs, batches)
        return {
            name: self._array(name, value, batches) for name, value in outputs.items()
        }

    def _array(self, name, value, batches):
        try:
            array = np.asarray(value)
        except ValueError:  # rows of different lengths
            array = np.asarray(None)
        if array.dtype.kind not in "iuf" or array.shape[:1] not in batches:
            raise ValueError(
                f"{self.url} must answer numbers, as many rows as it was sent. "
                f"{printable(name)} has shape {array.shape}, dtype {array.dtype}"
            )
        return array

    def _ask(self, url, key, body=None):
        """Sends a request and returns the value of a key in the response."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(url, data, self._headers)
        try:
            status, answer = within(self.seconds, self._exchange, request)
        except (OSError, http.client.HTTPException, ValueError) as error:
            reason = printable(getattr(error, "reason", error))
            raise ConnectionError(f"No answer from {url}: {reason}") from error
        text = printable(answer[:1000].decode(errors="replace"))
        if status != 200:
            raise ValueError(f"{url} answers {status}: {text}")
        if len(answer) > MAX_BYTES:
            raise ValueError(f"{url} answers more than {MAX_BYTES} bytes")
        try:
            return json.loads(answer)[key]
        except (ValueError, RecursionError, TypeError, LookupError) as error:
            raise ValueError(
                f"{url} is not TensorFlow Serving's: no {key} in {text}"
            ) from error

    def _exchange(self, request):
        try:
            with self._opener.open(request, timeout=self.seconds) as response:
                return response.status, response.read(MAX_BYTES + 1)
        except urllib.error.HTTPError as error:
            with error:
                place = error.headers.get("Location")
                if place is not None:
                    return error.code, f"it redirects to {place}".encode()
                return error.code, error.read(1000)


def light_on_dark(picture):
    """Converts a picture to grey values, light on dark.

    Args:
        picture: a Pillow image, grey or coloured, of 8 or 16 bits. Transparent pixels
            become white, or black if the picture on white has no dark pixel.

    Returns:
        uint8 `(height, width)`.

    Raises:
        ValueError: the picture has more than 16 bits, fractional values, or TIFF tiles
            that are too large.
    """
    # TIFF is decoded in whole tiles, which can be much larger than the picture.
    tags = getattr(picture, "tag_v2", {})
    if tags.get(322, 0) * tags.get(323, 0) > 2**20:
        raise ValueError("the tiles of the picture are too large")
    picture = ImageOps.exif_transpose(picture)
    if picture.mode.startswith("I"):
        deep = np.asarray(picture)
        if deep.min() < 0 or deep.max() > 65535:
            raise ValueError("the picture has more than 16 bits")
        grey = np.round(deep / 257)
        alpha = 255 * (deep != picture.info.get("transparency"))
    elif picture.mode == "F":
        raise ValueError("the picture has fractional values")
    else:
        pixels = np.asarray(picture.convert("RGBA").convert("LA"))
        grey, alpha = pixels[..., 0], pixels[..., 1]
    part = alpha / 255
    on_white = grey * part + 255 * (1 - part)
    grey = np.round(on_white if on_white.min() < 128 else grey * part).astype("uint8")
    border = np.concatenate([grey[0], grey[-1], grey[:, 0], grey[:, -1]])
    return 255 - grey if np.median(border) > 127 else grey


def read(files):
    """Reads pictures, light on dark, as uint8 `(pictures, height, width, 1)`."""
    pictures = [read_one(file) for file in files]
    sizes = sorted({picture.shape for picture in pictures})
    if len(sizes) > 1:
        raise ValueError(f"The pictures must be of one size. Received: {sizes}")
    return np.stack(pictures)[..., None]


def read_one(file):
    name = printable(file)
    with open(file, "rb") as stream:
        try:
            picture = Image.open(stream, formats=FORMATS)
            if picture.width * picture.height <= MAX_PIXELS:
                return light_on_dark(picture)
        except Exception as error:  # Pillow raises errors of many types
            raise ValueError(f"{name} is no picture: {printable(error)}") from error
    raise ValueError(
        f"{name} has {picture.width} × {picture.height} pixels, more than {MAX_PIXELS}"
    )


def examples():
    """Returns the first two MNIST test images of each digit, as `read` does."""
    sheet = np.asarray(Image.open(DIGITS))
    rows, columns = sheet.shape[0] // 28, sheet.shape[1] // 28
    pictures = sheet.reshape(rows, 28, columns, 28).swapaxes(1, 2)
    return pictures.reshape(-1, 28, 28, 1)


def winners(outputs):
    """Returns the predicted class of each picture and its score.

    Args:
        outputs: outputs of `Client.predict`. They are checked, because a server can
            return anything.

    Returns:
        Two arrays of shape `(pictures,)`: the classes and their scores.

    Raises:
        ValueError: the outputs have no valid `classes` and `scores`.
    """
    if not isinstance(outputs, dict) or not {"classes", "scores"} <= outputs.keys():
        raise ValueError("The server must answer `classes` and `scores`")
    classes, scores = outputs["classes"], outputs["scores"]
    if scores.ndim != 2 or not np.isfinite(scores).all():
        raise ValueError(
            "`scores` must be finite numbers, a row for each picture. "
            f"Received: shape {scores.shape}"
        )
    if (
        classes.ndim != 1
        or classes.dtype.kind not in "iu"
        or not 0 <= classes.min() <= classes.max() < scores.shape[1]
    ):
        raise ValueError(
            f"`classes` must be integers from 0 to {scores.shape[1] - 1}, one for each "
            f"picture. Received: shape {classes.shape}, dtype {classes.dtype}"
        )
    return classes, scores[np.arange(len(classes)), classes]


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--url", default="http://localhost:8501", help="default: %(default)s")
    add("--model", default="capsnet_mnist_small", help="default: %(default)s")
    add("pictures", nargs="*", type=Path, help="default: twenty test images of MNIST")
    args = parser.parse_args()
    sys.stdout.reconfigure(errors="backslashreplace")
    try:
        if args.pictures:
            names, images = args.pictures, read(args.pictures)
        else:
            images = examples()
            names = [f"{DIGITS.name}, a {index % 10}" for index in range(len(images))]
        client = Client(args.url, args.model)
        for version, state in client.versions().items():
            print(f"{args.model}, version {version}: {printable(state)}")
        classes, scores = winners(client.predict("serving_uint8", images=images))
    except (ValueError, OSError) as error:
        raise SystemExit(str(error)) from error
    print(f"\n{'picture':>20}  class  score")
    for name, label, score in zip(names, classes, scores, strict=True):
        print(f"{printable(name):>20}  {label:5d}  {score:.3f}")


if __name__ == "__main__":
    main()
