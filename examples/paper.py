"""Paper and pen for a page in Gradio, and what is on the paper."""

import numpy as np
from PIL import Image, ImageDraw

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
