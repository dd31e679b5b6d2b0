"""A web page to explore trained capsule networks.

    python examples/playground.py
    python examples/playground.py --capsnet saved_models/capsnet_digits/1 --port 7861

Draw a digit, see the lengths and activations of the capsules, and change the pose of
one capsule to see how its reconstruction changes. The page needs two SavedModels, by
default those in saved_models/. It needs neither the package nor an Internet connection.
"""

import argparse
import base64
import io
import logging
import os
import socket
import tempfile
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")

import gradio as gr
import numpy as np
import tensorflow as tf
from PIL import Image, ImageDraw, ImageOps

# TensorFlow warns that the SavedModels have no gradients, which are not needed here.
logging.getLogger("absl").setLevel(logging.ERROR)

HERE = Path(__file__).parent
SAVED = HERE.parent / "saved_models"
# digits.png shows the first two test images of each digit in MNIST. The networks must
# take images of the same size.
SIZE = (28, 28)
# Larger uploads would take too much memory.
MAX_BYTES, MAX_PIXELS = 2**24, 2**24
# Pixels that differ less than this from the background are paper, not ink.
NOISE = 40
# Pillow also reads EPS files, but starts Ghostscript for it.
FORMATS = ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM")


def refusal(reason):
    """Returns an error whose message the page shows."""
    return gr.Error(reason, print_exception=False)


class Network:
    """A network loaded from a SavedModel.

    Args:
        path: folder of a version of the SavedModel.
        *signatures: names of the signatures that the page needs, besides
            `"serving_uint8"`.

    Raises:
        ValueError: there is no SavedModel, it lacks a signature, or its images have
            another shape than those of MNIST.
    """

    def __init__(self, path, *signatures):
        if not (Path(path) / "saved_model.pb").is_file():
            raise ValueError(
                f"{path} is no SavedModel: it has no saved_model.pb. Pass the folder "
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
                "decoder has no decode, and one without capsules has no trace. It has: "
                f"{sorted(self.model.signatures)}"
            )
        _, inputs = self.model.signatures["serving_uint8"].structured_input_signature
        shape = tuple(inputs["images"].shape[1:])
        if shape != (*SIZE, 1):
            raise ValueError(
                f"{path} must take images {(*SIZE, 1)}. It takes images {shape}"
            )

    def ask(self, signature, **inputs):
        """Returns the outputs of a signature for one example, as arrays.

        Outputs that are not finite raise an error.

        Args:
            signature: name of the signature.
            **inputs: arrays by name, without a batch axis.
        """
        inputs = {name: tf.constant(value)[None] for name, value in inputs.items()}
        outputs = self.model.signatures[signature](**inputs)
        outputs = {name: value.numpy()[0] for name, value in outputs.items()}
        if not all(np.isfinite(value).all() for value in outputs.values()):
            raise refusal("The network returned numbers that are not finite.")
        return outputs


def shown(picture):
    """Returns an image as HTML.

    The pixels are embedded in the HTML, so that no file is kept on the server.

    Args:
        picture: floats from 0 to 1, or uint8, of the shape `SIZE` or `(*SIZE, 1)`.
    """
    if picture.dtype != np.uint8:
        picture = (255 * picture.clip(0, 1)).round().astype("uint8")
    file = io.BytesIO()
    Image.fromarray(picture.reshape(SIZE)).save(file, "PNG")
    data = base64.b64encode(file.getvalue()).decode()
    return f'<img class="pixels" src="data:image/png;base64,{data}">'


def bars(scores):
    """Returns a bar for each class as HTML, with the longest in bold."""
    rows = ""
    for digit, score in enumerate(scores):
        kind = ' class="winner"' if digit == np.argmax(scores) else ""
        rows += (
            f'<div{kind}><span>{digit}</span><meter value="{score:.3f}"></meter>'
            f"<span>{score:.2f}</span></div>"
        )
    return f'<div class="bars">{rows}</div>'


def ticks(low, high):
    """Returns round numbers from `low` to `high`, for an axis of at most six steps."""
    span = high - low
    if span <= 0:
        return [low]
    step = 10.0 ** np.floor(np.log10(span / 2))
    step *= next(factor for factor in (1, 2, 5, 10) if span <= 6 * factor * step)
    return step * np.arange(np.ceil(low / step), np.floor(high / step) + 1)


def chart(title, label, lines, whole=False):
    """Draws a line chart as SVG.

    Matplotlib would need half a second for three charts.

    Args:
        title: text above the chart.
        label: label of the x-axis.
        lines: a tuple for each line: its points `(x, y)`, its width, and its name in
            the legend. Lines with a name or a width above 1 are blue.
        whole: whether the x-axis has a tick at each integer.
    """
    points = np.concatenate([line[0] for line in lines])
    (left, low), (right, high) = points.min(0), points.max(0)
    across = np.arange(left, right + 1) if whole else ticks(left, right)
    upwards = ticks(low, high)
    scale = (300 / ((right - left) or 1), -200 / ((high - low) or 1))
    origin = (45 - left * scale[0], 230 - low * scale[1])

    svg = f'<text x="200" y="14">{title}</text><text x="200" y="272">{label}</text>'
    svg += '<rect x="40" y="25" width="310" height="210"/>'
    for x in across:
        at = origin[0] + x * scale[0]
        svg += f'<path d="M{at:.1f} 235v4"/><text x="{at:.1f}" y="253">{x:.3g}</text>'
    for y in upwards:
        at = origin[1] + y * scale[1]
        svg += f'<path d="M40 {at:.1f}h-4"/>'
        svg += f'<text x="33" y="{at + 4:.1f}" class="left">{y:.3g}</text>'
    for number, (points, width, name) in enumerate(lines):
        drawn = " ".join(f"{x:.1f},{y:.1f}" for x, y in origin + points * scale)
        kind = ' class="winner"' if name or width > 1 else ""
        svg += f'<polyline{kind} stroke-width="{width}" points="{drawn}"/>'
        if name:
            at = 42 + 18 * number
            svg += f'<path{kind} stroke-width="{width}" d="M245 {at}h25"/>'
            svg += f'<text x="343" y="{at + 4}" class="left">{name}</text>'
    return f'<svg viewBox="0 0 360 280">{svg}</svg>'


def votes(trace):
    """Draws the votes for the class capsules in each routing iteration.

    Args:
        trace: the outputs of the signature `trace` for one image.

    Returns:
        HTML with three charts: a histogram of the distances between the votes for the
        winning class and their mean, the standard deviation of the votes for each
        class, and the activation of each class.
    """
    activations = trace["activations"]  # (iterations, classes)
    spread = np.sqrt(trace["variances"].mean(-1))  # (iterations, classes)
    iterations = np.arange(1, 1 + len(activations))
    winner = activations[-1].argmax()

    edges = np.linspace(0, np.quantile(trace["distances"], 0.95), 31)
    steps = []
    for iteration in iterations:
        distances = trace["distances"][iteration - 1, winner]  # (children,)
        weights = trace["weights"][iteration - 1, winner]
        heights = np.histogram(distances, edges, weights=weights)[0].repeat(2)
        points = np.stack([edges.repeat(2), [0, *heights, 0]], -1)
        steps.append((points, iteration, f"iteration {iteration}"))
    charts = chart(f"votes for the {winner}", "distance from their mean", steps)
    for title, values in (("deviation of votes", spread), ("activation", activations)):
        lines = [
            (np.stack([iterations, line], -1), 3 if digit == winner else 1, "")
            for digit, line in enumerate(values.T)
        ]
        title = f"{title} ({winner} in blue)"
        charts += chart(title, "iteration", lines, whole=True)
    return f'<div class="charts">{charts}</div>'


STROKE = 0.08  # width of a stroke, relative to the width of the paper
POINTS = 20_000  # most points of a drawing: enough for minutes of drawing
# Arguments of `gr.HTML`. Its value is a list of strokes, each a list of points `(x, y)`
# from 0 to 1.
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
  stroke.push([+(x / box.width).toFixed(3), +(y / box.height).toFixed(3)]);
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
.pixels {display: block; margin: 2em auto 0; width: 280px; max-width: 100%}
.pixels, #gallery img {image-rendering: pixelated}
.charts {display: flex; flex-wrap: wrap}
.charts svg {flex: 1; min-width: 250px}
.charts text {font-size: 12px; text-anchor: middle; fill: currentColor}
.charts .left {text-anchor: end}
.charts polyline, .charts rect, .charts path {fill: none; stroke: currentColor}
.charts polyline {stroke: #b3b3b3}
.charts .winner {stroke: #1f77b4}
/* On a phone the reconstruction stays visible while its pose is changed. */
@media (max-width: 640px) {
  #picture .pixels {width: 140px}
  #pose {max-height: 38vh; overflow-y: auto}
  #pose input[type=number] {display: none}
}
"""
LABELLED = {"container": True, "show_label": True}
FRAMED = {**LABELLED, "min_height": 200}
WORDS = """# Capsules
Draw a digit. The length of each of the ten capsules says whether its digit is present,
and the pose describes how the digit looks. Change a dimension to see what it describes.
"""


def drawn(strokes, side=280):
    """Draws strokes on a square image.

    Args:
        strokes: a list of strokes, each a list of points `(x, y)` from 0 to 1.
        side: height and width of the result in pixels.

    Returns:
        uint8 `(side, side)`, light on dark.
    """
    try:
        strokes = [np.asarray(points, "float64") for points in strokes or []]
    except (TypeError, ValueError, OverflowError) as error:
        raise refusal("A drawing must be a list of strokes, of numbers.") from error
    for points in strokes:
        # A stroke can continue outside of the paper.
        shaped = points.ndim == 2 and points.shape[1] == 2
        if not shaped or not (abs(points) < 100).all():
            raise refusal("A stroke must be a list of points (x, y) on the paper.")
    if sum(map(len, strokes)) > POINTS:
        raise refusal(f"A drawing must have at most {POINTS} points: clear the paper.")
    paper = Image.new("L", (side, side))
    pen = ImageDraw.Draw(paper)
    width = round(STROKE * side)
    for stroke in strokes:
        points = [(x, y) for x, y in side * stroke]
        pen.line(points, 255, width, joint="curve")
        for x, y in (points[0], points[-1]):
            pen.circle((x, y), width / 2, 255)
    return np.asarray(paper)


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
        picture = picture.convert("RGBA")
        picture.thumbnail((20 * SIZE[1], 20 * SIZE[0]))
        pixels = np.asarray(picture.convert("LA"))
        grey, alpha = pixels[..., 0], pixels[..., 1]
    part = alpha / 255
    on_white = grey * part + 255 * (1 - part)
    grey = np.round(on_white if on_white.min() < 128 else grey * part).astype("uint8")
    return 255 - grey if _ground(grey) > 127 else grey


def _ground(grey):
    """Returns the median grey value along the border of a picture."""
    return np.median(np.r_[grey[0], grey[-1], grey[:, 0], grey[:, -1]])


def ink(picture):
    """Separates a drawing from an uneven background, such as photographed paper.

    Args:
        picture: uint8 `(height, width)`, light on dark.

    Returns:
        uint8 `(height, width)`: the background is black and the brightest ink white.
    """
    above = picture - _ground(picture) - NOISE
    return (255.0 * above / max(above.max(), 1.0)).clip(0, 255).astype("uint8")


def centred(picture, size):
    """Scales and centres a drawing as in MNIST.

    The longer side of the drawing takes 20 of 28 pixels, and its centre of mass is
    moved to the centre of the image.

    Args:
        picture: uint8 `(height, width)`, light on dark.
        size: height and width of the result in pixels.

    Returns:
        uint8 `(height, width)`, or `None` if the picture is empty.
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
    """Overlays two digits, as in MultiMNIST.

    Args:
        first: uint8 `(height, width)`.
        second: uint8 `(height, width)`.
        shift: how many pixels the second digit lies to the right of the first.

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
    """Reads a file that shows many pictures in a grid, and splits it row by row.

    Args:
        file: path of the image file.
        size: height and width of a picture in pixels.

    Returns:
        uint8 `(pictures, height, width)`.
    """
    sheet = np.asarray(Image.open(file).convert("L"))
    height, width = size
    rows, columns = sheet.shape[0] // height, sheet.shape[1] // width
    split = sheet.reshape(rows, height, columns, width).swapaxes(1, 2)
    return split.reshape(rows * columns, height, width)


def uploaded(file):
    """Reads an uploaded picture of a digit, scaled and centred as in MNIST.

    A picture of the size of MNIST images is neither scaled nor moved. The sizes of the
    file and of the picture are checked before the picture is decoded.
    """
    try:
        if os.path.getsize(file) > MAX_BYTES:
            raise refusal(f"The file must have at most {MAX_BYTES} bytes.")
        with Image.open(file, formats=FORMATS) as picture:
            width, height = picture.size
            if (height, width) == SIZE:
                return light_on_dark(picture)
            if width * height <= MAX_PIXELS:
                return centred(ink(light_on_dark(picture)), SIZE)
    except gr.Error:
        raise
    except Exception as error:  # Pillow raises errors of many types
        raise refusal(
            "This file is no picture that can be read: it must be of 8 or 16 bits, in "
            f"one of the formats {', '.join(FORMATS)}."
        ) from error
    raise refusal(
        f"The picture must have at most {MAX_PIXELS} pixels. This one has {width} × "
        f"{height}."
    )


def build(capsnet, matrix, digits):
    """Builds the page.

    Args:
        capsnet: a `Network` with a decoder.
        matrix: a `Network` with EM routing.
        digits: the pictures to choose from, uint8 `(pictures, height, width)`; picture
            i shows the digit i % 10.

    Returns:
        The page as a `gr.Blocks`.

    Raises:
        ValueError: `matrix` has no EM routing.
    """
    _, inputs = capsnet.model.signatures["decode"].structured_input_signature
    classes, *_, dimensions = inputs["poses"].shape[1:]
    missing = {"activations", "variances"} - {
        *matrix.model.signatures["trace"].structured_outputs
    }
    if missing:
        raise ValueError(
            f"`matrix` must be a network with EM routing. Its trace lacks {missing}"
        )

    def look(image):
        """Returns all outputs of the page, with the longest capsule selected."""
        if image is None:
            return ["", bars([]), None, None, "", *[0.0] * dimensions, bars([]), ""]
        outputs = capsnet.ask("serving_uint8", images=image[..., None])
        poses, winner = outputs["poses"], int(outputs["classes"])
        trace = matrix.ask("trace", images=np.float32(image[..., None] / 255))
        return [
            shown(image),
            bars(outputs["scores"]),
            poses,
            str(winner),
            *choose(poses, winner),
            bars(trace["activations"][-1]),
            votes(trace),
        ]

    def draw(poses, capsule, *offsets):
        """Reconstructs a capsule after its pose is changed by the offsets."""
        if poses is None or capsule is None:
            return ""
        moved = poses + np.float32(offsets)
        answer = capsnet.ask("decode", poses=moved, classes=np.int32(capsule))
        return shown(answer["pictures"])

    def choose(poses, capsule):
        """Reconstructs a capsule from its unchanged pose, and resets the sliders."""
        offsets = [0.0] * dimensions
        return [draw(poses, capsule, *offsets), *offsets]

    def sketched(strokes):
        return look(centred(drawn(strokes), SIZE))

    def clear():
        return [[], *look(None)]

    def pick(event: gr.SelectData):
        if event.index not in range(len(digits)):
            raise refusal(f"There are {len(digits)} pictures to pick from.")
        return look(digits[event.index])

    def pair(first, second, shift):
        return look(overlapping(digits[int(first)], digits[10 + int(second)], shift))

    def take(file):
        return look(uploaded(file))

    names = [str(digit) for digit in range(10)]
    minutes = {"delete_cache": (600, 600)}  # seconds; uploads are deleted after them
    with gr.Blocks(title="Capsules", analytics_enabled=False, **minutes) as page:
        poses = gr.State()
        gr.Markdown(WORDS)
        with gr.Row():
            with gr.Column(scale=2, min_width=320):
                with gr.Tab("Draw"):
                    sketch = gr.HTML(
                        [],
                        **PAPER,
                        elem_id="sketch",
                    )
                    empty = gr.Button("Clear")
                with gr.Tab("Pick"):
                    gallery = gr.Gallery(
                        [*digits],
                        format="png",
                        show_label=False,
                        elem_id="gallery",
                        columns=3,
                        height=340,
                        allow_preview=False,
                        buttons=[],
                    )
                with gr.Tab("Two at once"):
                    gr.Markdown(
                        "The networks were trained on images of a single digit. Their "
                        "scores for two digits are less certain."
                    )
                    with gr.Row():
                        first = gr.Dropdown(names, value="3", label="First digit")
                        second = gr.Dropdown(names, value="7", label="Second digit")
                    shift = gr.Slider(
                        -12,
                        12,
                        8,
                        step=1,
                        label="Shift of the second digit to the right, in pixels",
                    )
                    overlap = gr.Button("Overlay the digits")
                with gr.Tab("Upload"):
                    upload = gr.UploadButton(
                        "Upload a picture of a digit",
                        elem_id="upload",
                        file_types=["image"],
                    )
                seen = gr.HTML(elem_id="seen", label="Input of the networks", **FRAMED)
            with gr.Column(scale=5):
                with gr.Tab("Dynamic routing"):
                    with gr.Row():
                        lengths = gr.HTML(elem_id="lengths", label="Length", **LABELLED)
                        picture = gr.HTML(
                            elem_id="picture",
                            label="Reconstruction",
                            **FRAMED,
                        )
                    capsule = gr.Radio(
                        [str(number) for number in range(classes)],
                        label="Capsule",
                        elem_id="capsule",
                    )
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
                    routing = gr.HTML(elem_id="votes", container=True)

        quiet = {"show_progress": "hidden", "trigger_mode": "always_last"}
        chosen = [picture, *sliders]
        everything = [seen, lengths, poses, capsule, *chosen, activations, routing]
        # With a limit of two, one stroke is computed while another answer is sent.
        sketch.input(sketched, sketch, everything, concurrency_limit=2, **quiet)
        empty.click(clear, None, [sketch, *everything], **quiet)
        gallery.select(pick, None, everything, **quiet)
        overlap.click(pair, [first, second, shift], everything, **quiet)
        upload.upload(take, upload, everything, **quiet)
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
            if os.name == "posix":  # otherwise closed connections keep the port
                free.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            free.bind(("127.0.0.1", args.port))
    except (OSError, OverflowError) as error:
        raise SystemExit(
            f"Port {args.port} can't be used ({error}): choose another with --port"
        ) from error
    # A temporary folder, so that no upload is left after the server ends.
    with tempfile.TemporaryDirectory() as folder:
        os.environ["GRADIO_TEMP_DIR"] = folder
        try:
            capsnet = Network(args.capsnet, "decode")
            matrix = Network(args.matrix, "trace")
            page = build(capsnet, matrix, tiles(HERE / "digits.png", SIZE))
            print(f"http://127.0.0.1:{args.port}", flush=True)
            page.launch(
                quiet=True,
                server_name="127.0.0.1",
                server_port=args.port,
                max_file_size=MAX_BYTES,
                css=STYLE,
                theme=gr.themes.Default(font="sans-serif", font_mono="monospace"),
                footer_links=[],
            )
        except (ValueError, OSError) as error:
            raise SystemExit(str(error)) from error


if __name__ == "__main__":
    main()
