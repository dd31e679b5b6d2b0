"""Pages with sections that are made from results."""

import re
import statistics
import sys
from pathlib import Path

IMAGES = Path("docs/images")


def line(cells):
    """A line of a table."""
    return f"| {' | '.join(cells)} |"


def head(first, *columns):
    """The first two lines of a table; all columns but the first are numbers."""
    return [line([first, *columns]), line(["---", *["---:"] * len(columns)])]


def spread(values):
    """Values with two decimals; of three or more their mean and deviation as well."""
    found = ", ".join(f"{value:.2f}" for value in values)
    if len(values) > 2:
        deviation = statistics.stdev(values)
        found += f" ({statistics.mean(values):.2f} ± {deviation:.2f})"
    return found


def figure(drawn, name, text):
    """The lines of a figure, which is kept in docs/images."""
    IMAGES.mkdir(parents=True, exist_ok=True)
    drawn.savefig(IMAGES / f"{name}.png")
    return ["", f"![{text}](images/{name}.png)"]


def origin(command, where, commands):
    """The lines that say which command made a section, where, and what it runs."""
    where = f" ({where})" if where else ""
    return ["", f"`{command}`{where} runs", "", "```", *commands, "```"]


def marks(name):
    """What stands in a page before and behind a section."""
    return f"<!-- {name} -->", f"<!-- end of {name} -->"


def read_page(path, names):
    """A page that has the marks of all these sections."""
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
    """Puts sections between the marks that a page has for them.

    Args:
        path: the page.
        names: of its sections.
        section: function that takes a name and returns the text; it is called when the
            page is known to have all marks.

    Returns:
        The texts, by name.
    """
    page = read_page(path, names)
    sections = {name: section(name) for name in names}
    for name, text in sections.items():
        mark, end = marks(name)
        new = f"{mark}\n{text}\n{end}"
        page = re.sub(f"{mark}.*?{end}", lambda _, new=new: new, page, flags=re.DOTALL)
    path.write_text(page)
    return sections
