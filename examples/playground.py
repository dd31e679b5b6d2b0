"""A page to play with trained capsule networks.

    python examples/playground.py
    python examples/playground.py --capsnet saved_models/capsnet_digits/1 --port 7861

Draw a digit, see what the capsules make of it, and move the pose of one of them. The
page needs two SavedModels, those of saved_models/ unless told otherwise, nothing of
the package, and no network.
"""

import argparse
import logging
import os
import socket
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")

import gradio as gr
import numpy as np
import tensorflow as tf
from matplotlib.figure import Figure
from PIL import Image, ImageDraw

# TensorFlow warns that gradients were left out; nobody asks for them here.
logging.getLogger("absl").setLevel(logging.ERROR)

HERE = Path(__file__).parent
SAVED = HERE.parent / "saved_models"
# digits.png holds the first two of each digit among the test images of MNIST. The
# networks must take images of the same size.
SIZE = (28, 28)


class Network:
    """What a SavedModel answers.

    Args:
        path: folder of its version.
        signatures: those that the page asks of it.

    Raises:
        ValueError: there is no SavedModel, it lacks a signature, or it takes other
            images than those of MNIST.
    """

    def __init__(self, path, *signatures):
        if not (Path(path) / "saved_model.pb").is_file():
            raise ValueError(
                f"{path} is no SavedModel: it has no saved_model.pb. Name the folder "
                "of a version, such as saved_models/capsnet_mnist_small/1"
            )
        try:
            self.model = tf.saved_model.load(str(path))
        except Exception as error:
            raise ValueError(f"{path} is damaged: it can't be loaded") from error
        missing = {"serving_uint8", *signatures} - {*self.model.signatures}
        if missing:
            raise ValueError(
                f"{path} lacks the signatures {sorted(missing)}: a network without "
                "decoder has no decode, one without capsules no trace. It has: "
                f"{sorted(self.model.signatures)}"
            )
        _, inputs = self.model.signatures["serving_uint8"].structured_input_signature
        shape = tuple(inputs["images"].shape[1:])
        if shape != (*SIZE, 1):
            raise ValueError(
                f"{path} must take images {(*SIZE, 1)}. It takes images {shape}"
            )

    def ask(self, signature, **inputs):
        """The outputs of a signature for one example, as arrays."""
        inputs = {name: tf.constant(value)[None] for name, value in inputs.items()}
        outputs = self.model.signatures[signature](**inputs)
        return {name: value.numpy()[0] for name, value in outputs.items()}


def enlarged(picture):
    """A picture of values from 0 to 1 or of uint8, its pixels as squares to look at."""
    if picture.dtype != np.uint8:
        picture = (255 * picture.clip(0, 1)).round().astype("uint8")
    return picture.reshape(SIZE).repeat(10, 0).repeat(10, 1)


def bars(scores):
    """A bar for each class, in HTML; the longest in bold."""
    rows = ""
    for digit, score in enumerate(scores):
        kind = ' class="winner"' if digit == np.argmax(scores) else ""
        rows += (
            f'<div{kind}><span>{digit}</span><meter value="{score:.3f}"></meter>'
            f"<span>{score:.2f}</span></div>"
        )
    return f'<div class="bars">{rows}</div>'


def votes(trace):
    """Draws what routing does with the votes for the classes.

    Args:
        trace: the arrays of the signature `trace` for one image.

    Returns:
        A figure of the winner's votes by their distance from their mean, of the
        standard deviation of the votes for each class, and of its activation, over
        the iterations.
    """
    activations = trace["activations"]  # (iterations, classes)
    spread = np.sqrt(trace["variances"].mean(-1))  # (iterations, classes)
    iterations = np.arange(1, 1 + len(activations))
    winner = activations[-1].argmax()

    figure = Figure(figsize=(11, 3.2), layout="constrained")
    histogram, *lines = figure.subplots(1, 3)
    bins = np.linspace(0, np.quantile(trace["distances"], 0.95), 31)
    for iteration in iterations:
        histogram.hist(
            trace["distances"][iteration - 1, winner],
            bins,
            weights=trace["weights"][iteration - 1, winner],
            histtype="step",
            color="C0",
            linewidth=iteration,
            label=f"iteration {iteration}",
        )
    histogram.set(title=f"votes for the {winner}", xlabel="distance from their mean")
    histogram.legend()
    for axis, values, title in (
        (lines[0], spread, "deviation of votes"),
        (lines[1], activations, "activation"),
    ):
        for digit, line in enumerate(values.T):
            style = {"color": "C0", "linewidth": 3} if digit == winner else {}
            axis.plot(iterations, line, **{"color": "0.7", "linewidth": 1, **style})
        axis.set(
            title=f"{title} ({winner} in blue)", xlabel="iteration", xticks=iterations
        )
    return figure


STROKE = 0.08  # width of a stroke, as a part of the width of the paper
# Arguments of `gr.HTML`. Its value is the strokes, for each the points `(x, y)` that it
# goes through, from 0 to 1.
PAPER = {
    "html_template": """<svg viewBox="0 0 1 1">
${value.map((stroke) => `<polyline points="${stroke}"/>`).join("")}
</svg>""",
    "css_template": f"""
svg {{width: 100%; background: black; touch-action: none; cursor: crosshair}}
polyline {{fill: none; stroke: white; stroke-width: {STROKE};
  stroke-linecap: round; stroke-linejoin: round}}
""",
    "js_on_load": """
let stroke = null;
const go = (event) => {
  const box = element.querySelector("svg").getBoundingClientRect();
  const [x, y] = [event.clientX - box.left, event.clientY - box.top];
  stroke.push([x / box.width, y / box.height]);
  element.querySelector("polyline:last-child").setAttribute("points", stroke);
};
element.addEventListener("pointerdown", (event) => {
  if (!event.target.closest("svg")) return;
  element.setPointerCapture(event.pointerId);
  stroke = [];
  element.querySelector("svg").append(
    document.createElementNS("http://www.w3.org/2000/svg", "polyline"));
  go(event);
});
element.addEventListener("pointermove", (event) => stroke && go(event));
element.addEventListener("lostpointercapture", () => {
  if (!stroke) return;
  props.value = [...props.value, stroke];
  stroke = null;
  trigger("input");
});
""",
}
STYLE = """
.bars {margin-top: 1.5em; min-height: 15em}
.bars div {display: flex; gap: 0.6em; align-items: center}
.bars meter {flex: 1; height: 1.3em}
.bars .winner {font-weight: bold}
"""
LABELLED = {"container": True, "show_label": True}
WORDS = """# Capsules
Draw a digit. Each of ten capsules says by its length whether its digit is there, and by
its pose how it looks: move a dimension and see what it stands for.
"""


def drawn(strokes, side=280):
    """Strokes on a square piece of paper.

    Args:
        strokes: for each the points `(x, y)` that it goes through, from 0 to 1.
        side: height and width of the result.

    Returns:
        uint8 `(side, side)`, light on dark.
    """
    paper = Image.new("L", (side, side))
    pen = ImageDraw.Draw(paper)
    width = round(STROKE * side)
    for stroke in strokes:
        points = [(side * x, side * y) for x, y in stroke]
        pen.line(points, 255, width, joint="curve")
        for x, y in (points[0], points[-1]):
            pen.circle((x, y), width / 2, 255)
    return np.asarray(paper)


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


def centred(picture, size):
    """What was drawn, scaled and moved as in MNIST.

    The longer side becomes 20 of 28 pixels, the centre of mass the centre.

    Args:
        picture: uint8 `(height, width)`, light on dark.
        size: height and width of the result.

    Returns:
        uint8 `(height, width)`, or `None` if nothing was drawn.
    """
    rows, columns = np.nonzero(picture > 25)
    if not len(rows):
        return None
    part = picture[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
    scale = min(size) * 20 / 28 / max(part.shape)
    height, width = (max(1, round(scale * side)) for side in part.shape)
    part = np.asarray(Image.fromarray(part).resize((width, height), Image.BOX))
    mass = part / part.sum()
    centre = mass.sum(1) @ np.arange(height), mass.sum(0) @ np.arange(width)
    top, left = (
        int(np.clip(round((whole - 1) / 2 - middle), 0, whole - side))
        for whole, middle, side in zip(size, centre, part.shape, strict=True)
    )
    result = np.zeros(size, "uint8")
    result[top : top + height, left : left + width] = part
    return result


def overlapping(first, second, shift):
    """Two digits over each other, as in MultiMNIST.

    Args:
        first: uint8 `(height, width)`.
        second: likewise.
        shift: pixels between the two, from left to right.

    Returns:
        uint8 `(height, width)`.
    """

    def moved(picture, by):
        rolled = np.roll(picture, by, axis=1)
        rolled[:, slice(0, by) if by >= 0 else slice(by, None)] = 0
        return rolled.astype("int32")

    left = shift // 2
    both = moved(first, -left) + moved(second, shift - left)
    return both.clip(0, 255).astype("uint8")


def tiles(file, size):
    """The pictures that a file holds side by side, row by row.

    Args:
        file: a grey image file.
        size: height and width of a picture.

    Returns:
        uint8 `(pictures, height, width)`.
    """
    sheet = np.asarray(Image.open(file).convert("L"))
    height, width = size
    rows, columns = sheet.shape[0] // height, sheet.shape[1] // width
    split = sheet.reshape(rows, height, columns, width).swapaxes(1, 2)
    return split.reshape(rows * columns, height, width)


def uploaded(file):
    """The digit in an uploaded file; what is no picture of its size is refused."""
    try:
        picture = Image.open(file)
        picture.load()
    except OSError as error:
        message = "This file is no picture that can be read."
        raise gr.Error(message, print_exception=False) from error
    if picture.size != SIZE[::-1]:
        raise gr.Error(
            "The picture must have {1} × {0} pixels. This one has {2} × {3}.".format(
                *SIZE, *picture.size
            ),
            print_exception=False,
        )
    return light_on_dark(picture)


def build(capsnet, matrix, digits):
    """The page.

    Args:
        capsnet: a `Network` with decoder.
        matrix: a `Network` with EM routing.
        digits: uint8 `(pictures, height, width)` to choose from; picture i is a
            digit i % 10.
    """
    _, inputs = capsnet.model.signatures["decode"].structured_input_signature
    dimensions = inputs["poses"].shape[-1]

    def recognize(image):
        """What the first network sees, and its longest capsule chosen."""
        if image is None:
            return [None, bars([]), None, None, None, *[0.0] * dimensions]
        outputs = capsnet.ask("serving_uint8", images=image[..., None])
        poses, winner = outputs["poses"], int(outputs["classes"])
        shown = enlarged(image), bars(outputs["scores"])
        return [*shown, poses, str(winner), *choose(poses, winner)]

    def draw(poses, capsule, *offsets):
        """What a capsule would look like with its pose moved."""
        if poses is None or capsule is None:
            return None
        moved = poses + np.float32(offsets)
        answer = capsnet.ask("decode", poses=moved, classes=np.int32(capsule))
        return enlarged(answer["pictures"])

    def choose(poses, capsule):
        """The picture of a capsule, its pose as it is."""
        offsets = [0.0] * dimensions
        return [draw(poses, capsule, *offsets), *offsets]

    def route(image):
        """What the second network sees, and how it came to it."""
        if image is None:
            return bars([]), None
        scores = matrix.ask("serving_uint8", images=image[..., None])["scores"]
        trace = matrix.ask("trace", images=np.float32(image[..., None] / 255))
        return bars(scores), votes(trace)

    def sketched(strokes):
        return centred(drawn(strokes), SIZE)

    def pick(event: gr.SelectData):
        return digits[event.index]

    def pair(first, second, shift):
        return overlapping(digits[int(first)], digits[10 + int(second)], shift)

    names = [str(digit) for digit in range(10)]
    with gr.Blocks(title="Capsules", analytics_enabled=False) as page:
        image, poses = gr.State(), gr.State()
        gr.Markdown(WORDS)
        with gr.Row():
            with gr.Column(scale=2, min_width=320):
                with gr.Tab("Draw"):
                    sketch = gr.HTML(
                        [],
                        **PAPER,
                        elem_id="sketch",
                    )
                    clear = gr.Button("Clear")
                with gr.Tab("Pick"):
                    gallery = gr.Gallery(
                        [enlarged(digit) for digit in digits],
                        show_label=False,
                        elem_id="gallery",
                        columns=3,
                        height=340,
                        allow_preview=False,
                        buttons=[],
                    )
                with gr.Tab("Two at once"):
                    gr.Markdown(
                        "The networks were trained on one digit at a time. With two "
                        "they are unsure."
                    )
                    with gr.Row():
                        first = gr.Dropdown(names, value="3", label="One digit")
                        second = gr.Dropdown(names, value="7", label="Another")
                    shift = gr.Slider(
                        -12,
                        12,
                        8,
                        step=1,
                        label="Pixels that the other lies to the right",
                    )
                    overlap = gr.Button("Lay them over each other")
                with gr.Tab("Upload"):
                    upload = gr.UploadButton(
                        f"Upload a picture of {SIZE[1]} × {SIZE[0]} pixels",
                        elem_id="upload",
                        file_types=["image"],
                    )
                seen = gr.Image(
                    label="What the networks see", elem_id="seen", buttons=[]
                )
            with gr.Column(scale=5):
                with gr.Tab("Dynamic routing"):
                    with gr.Row():
                        lengths = gr.HTML(elem_id="lengths", label="Length", **LABELLED)
                        picture = gr.Image(
                            label="What the capsule says it sees",
                            elem_id="picture",
                            buttons=[],
                        )
                    capsule = gr.Radio(names, label="Capsule", elem_id="capsule")
                    with gr.Row(elem_id="pose"):
                        sliders = [
                            gr.Slider(
                                -0.25,
                                0.25,
                                0.0,
                                step=0.01,
                                label=f"Dimension {number}",
                                min_width=180,
                                buttons=[],
                            )
                            for number in range(dimensions)
                        ]
                    reset = gr.Button("Reset the pose")
                with gr.Tab("EM routing"):
                    activations = gr.HTML(
                        elem_id="activations", label="Activation", **LABELLED
                    )
                    routing = gr.Plot(show_label=False, elem_id="votes")

        quiet = {"show_progress": "hidden", "trigger_mode": "always_last"}
        sketch.input(sketched, sketch, image, **quiet)
        clear.click(lambda: ([], None), None, [sketch, image], **quiet)
        gallery.select(pick, None, image, **quiet)
        overlap.click(pair, [first, second, shift], image)
        upload.upload(uploaded, upload, image)
        chosen = [picture, *sliders]
        image.change(
            recognize, image, [seen, lengths, poses, capsule, *chosen], **quiet
        )
        image.change(route, image, [activations, routing], **quiet)
        gr.on(
            [slider.input for slider in sliders],
            draw,
            [poses, capsule, *sliders],
            picture,
            **quiet,
        )
        gr.on([capsule.input, reset.click], choose, [poses, capsule], chosen, **quiet)
    return page


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name, folder in (("capsnet", "capsnet"), ("matrix", "matrix_capsnet")):
        default = SAVED / f"{folder}_mnist_small" / "1"
        parser.add_argument(f"--{name}", type=Path, default=default, help="SavedModel")
    parser.add_argument("--port", type=int, default=7860)
    args = parser.parse_args()
    try:
        with socket.socket() as free:
            free.bind(("127.0.0.1", args.port))
    except (OSError, OverflowError) as error:
        raise SystemExit(
            f"Port {args.port} can't be used ({error}): choose another with --port"
        ) from error
    try:
        capsnet = Network(args.capsnet, "decode")
        matrix = Network(args.matrix, "trace")
        page = build(capsnet, matrix, tiles(HERE / "digits.png", SIZE))
        print(f"http://127.0.0.1:{args.port}", flush=True)
        page.launch(
            quiet=True,
            server_name="127.0.0.1",
            server_port=args.port,
            css=STYLE,
            theme=gr.themes.Default(font="sans-serif", font_mono="monospace"),
            footer_links=[],
        )
    except (ValueError, OSError) as error:
        raise SystemExit(str(error)) from error


if __name__ == "__main__":
    main()
