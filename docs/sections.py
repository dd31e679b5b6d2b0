"""Brings the sections of Keras docstrings into the form that the site reads."""

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
    if paragraph.startswith("Call arguments:\n"):
        return paragraph.replace("Call arguments:", "Args: Call arguments:", 1)
    if paragraph.startswith(">>> "):
        return f"```pycon\n{paragraph}\n```"
    return paragraph
