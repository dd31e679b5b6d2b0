"""Functions to write Markdown pages with sections that are made from results."""

import re
import statistics
import sys
from pathlib import Path

from keras_capsules import files

IMAGES = Path("docs/images")


def line(cells):
    """Returns a line of a Markdown table."""
    return f"| {' | '.join(cells)} |"


def head(first, *columns):
    """Returns the header of a table; columns after the first are right-aligned."""
    return [line([first, *columns]), line(["---", *["---:"] * len(columns)])]


def spread(values):
    """Formats values; three or more are followed by their mean and deviation."""
    found = ", ".join(f"{value:.2f}" for value in values)
    if len(values) > 2:
        deviation = statistics.stdev(values)
        found += f" ({statistics.mean(values):.2f} ± {deviation:.2f})"
    return found


def figure(drawn, name, text):
    """Saves a figure in docs/images and returns the lines that show it."""
    IMAGES.mkdir(parents=True, exist_ok=True)
    drawn.savefig(IMAGES / f"{name}.png")
    return ["", f"![{text}](images/{name}.png)"]


def origin(command, where, commands):
    """Returns the lines that name the origin of a section.

    Args:
        command: the command that makes the section.
        where: the machines, as text.
        commands: the commands that it runs.
    """
    where = f" ({where})" if where else ""
    return ["", f"`{command}`{where} runs", "", "```", *commands, "```"]


def marks(name):
    """Returns the marks before and after a section."""
    return f"<!-- {name} -->", f"<!-- end of {name} -->"


def read_page(path, names):
    """Reads a page, and exits with a message if the mark of a section is missing."""
    try:
        page = path.read_text()
    except OSError as error:
        sys.exit(f"Can't read {path}, from the root of the repository: {error}")
    for name in names:
        for mark in marks(name):
            if mark not in page:
                sys.exit(f"{path} has no {mark}")
    return page


def write_page(path, names, section):
    """Writes sections between their marks in a page.

    Args:
        path: path of the page.
        names: names of the sections.
        section: function that takes the name of a section and returns its text. It is
            called only if the page has all marks.

    Returns:
        A dict of the texts by name.
    """
    page = read_page(path, names)
    sections = {name: section(name) for name in names}
    for name, text in sections.items():
        mark, end = marks(name)
        new = f"{mark}\n{text}\n{end}"
        page = re.sub(f"{mark}.*?{end}", lambda _, new=new: new, page, flags=re.DOTALL)
    with files.replaced(path) as unfinished:
        unfinished.write_text(page)
    return sections
