"""Asks a network that TensorFlow Serving serves, over REST.

    docker run -d --rm -p 8501:8501 -v "$PWD/saved_models:/models" \\
        -e MODEL_NAME=capsnet_mnist_small tensorflow/serving
    python examples/serve_client.py
    python examples/serve_client.py mine.png --url http://localhost:8501

It needs NumPy and Pillow, neither TensorFlow nor the package.
"""

import argparse
import json
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
from PIL import Image

DIGITS = Path(__file__).parent / "digits.png"


class Client:
    """One network of a server.

    Args:
        url: of the server, such as `http://localhost:8501`.
        model: name of the network there.
    """

    def __init__(self, url, model):
        if not url.startswith(("http://", "https://")):
            raise ValueError(f"`url` must begin with http://. Received: url={url}")
        self.url = f"{url.rstrip('/')}/v1/models/{model}"

    def versions(self):
        """The state of each version: `"AVAILABLE"` is one that answers."""
        status = self._ask(self.url)["model_version_status"]
        return {int(version["version"]): version["state"] for version in status}

    def predict(self, signature, **inputs):
        """The outputs of a signature.

        Args:
            signature: its name.
            **inputs: arrays, by name, the batch first.

        Returns:
            Arrays, by name; of a signature with one output the array alone.

        Raises:
            ConnectionError: nobody answers at this address.
            ValueError: the server refused the request.
        """
        inputs = {name: np.asarray(value).tolist() for name, value in inputs.items()}
        body = {"signature_name": signature, "inputs": inputs}
        outputs = self._ask(f"{self.url}:predict", body)["outputs"]
        if not isinstance(outputs, dict):
            return np.asarray(outputs)
        return {name: np.asarray(value) for name, value in outputs.items()}

    def _ask(self, url, body=None):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(url, data)
        request.add_header("Content-Type", "application/json")
        try:
            with urllib.request.urlopen(request, timeout=60) as response:
                answer = response.read()
        except urllib.error.HTTPError as error:
            reason = error.read().decode(errors="replace")
            raise ValueError(f"{url} answers {error.code}: {reason}") from error
        except OSError as error:
            reason = getattr(error, "reason", error)
            raise ConnectionError(f"No answer from {url}: {reason}") from error
        try:
            return json.loads(answer)
        except ValueError as error:
            raise ValueError(f"{url} is not TensorFlow Serving's") from error


def light_on_dark(picture):
    """A grey picture whose ground is dark, whatever the picture was.

    Args:
        picture: of Pillow, grey or coloured; what is transparent is white paper.

    Returns:
        uint8 `(height, width)`.
    """
    picture = picture.convert("RGBA")
    paper = Image.new("RGBA", picture.size, "white")
    grey = np.asarray(Image.alpha_composite(paper, picture).convert("L"))
    border = np.concatenate([grey[0], grey[-1], grey[:, 0], grey[:, -1]])
    return 255 - grey if np.median(border) > 127 else grey


def read(files):
    """Pictures as the networks were trained on: uint8 `(n, height, width, 1)`."""
    pictures = [light_on_dark(Image.open(file)) for file in files]
    sizes = sorted({picture.shape for picture in pictures})
    if len(sizes) > 1:
        raise ValueError(f"The pictures must be of one size. Received: {sizes}")
    return np.stack(pictures)[..., None]


def examples():
    """Twenty digits of MNIST, the first two of each, as `read` returns pictures."""
    sheet = np.asarray(Image.open(DIGITS))
    rows, columns = sheet.shape[0] // 28, sheet.shape[1] // 28
    pictures = sheet.reshape(rows, 28, columns, 28).swapaxes(1, 2)
    return pictures.reshape(-1, 28, 28, 1)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--url", default="http://localhost:8501", help="default: %(default)s")
    add("--model", default="capsnet_mnist_small", help="default: %(default)s")
    add("pictures", nargs="*", type=Path, help="of a digit each; by default twenty")
    args = parser.parse_args()
    try:
        if args.pictures:
            names, images = args.pictures, read(args.pictures)
        else:
            images = examples()
            names = [f"{DIGITS.name}, a {index % 10}" for index in range(len(images))]
        client = Client(args.url, args.model)
        for version, state in client.versions().items():
            print(f"{args.model}, version {version}: {state}")
        outputs = client.predict("serving_uint8", images=images)
    except (ValueError, OSError) as error:
        raise SystemExit(str(error)) from error
    print(f"\n{'picture':>20}  class  score")
    for name, label, scores in zip(
        names, outputs["classes"], outputs["scores"], strict=True
    ):
        print(f"{name!s:>20}  {label:5d}  {scores[label]:.3f}")


if __name__ == "__main__":
    main()
