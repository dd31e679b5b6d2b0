"""Makes the examples of docstrings blocks of code on the site."""

import griffe


class Sections(griffe.Extension):
    """Keras leaves the lines of an example without indentation, and without a fence."""

    def on_object(self, *, obj, **_):
        if obj.docstring:
            parts = obj.docstring.value.split("\n\n")
            obj.docstring.value = "\n\n".join(map(_fenced, parts))


def _fenced(paragraph):
    if paragraph == "Example:":
        return "**Example**"
    if paragraph.startswith(">>> "):
        return f"```pycon\n{paragraph}\n```"
    return paragraph
