"""What a report says, and its pages: report.md and report.html."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from raycifar.analysis.figures.style import Drawing, save
from raycifar.analysis.results import LEAK
from raycifar.analysis.tables.table import Table
from raycifar.storage.beneath import Where
from raycifar.texts import markdown, plain


@dataclass(frozen=True, slots=True)
class Report:
    """What the report says, before it is laid out. `tables` are cut to what can be read, `whole_tables` are not."""

    title: str
    answer: str  # a paragraph with all numbers
    cautions: list[str]
    tables: list[Table]
    whole_tables: list[Table]
    errata: list[tuple[str, str]]  # of the reference report: the letter that marks a row, what is wrong there
    failures: list[tuple[str, str]]  # trials, what went wrong
    provenance: list[tuple[str, str]]
    commands: list[str]
    costs: str = ""  # a second paragraph
    plainly: Sequence[tuple[str, str]] = ()  # questions of a reader with their answers, before everything else
    calls_heading: str = "Every call of run_sweep.py on this folder"


def pages(report: Report, pictures: Sequence["Picture"], no_images: str = "") -> dict[str, str]:
    """The report as report.md and report.html; `no_images` says why the test images are not in it."""
    jinja = Environment(
        loader=PackageLoader("raycifar.analysis.report"),
        autoescape=select_autoescape(("html.j2",)),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    jinja.filters["md"] = markdown
    names = ("report.md", "report.html")
    content = {"report": report, "pictures": pictures, "leak": LEAK, "no_images": plain(no_images)}
    return {name: jinja.get_template(f"{name}.j2").render(content) for name in names}


@dataclass(frozen=True, slots=True)
class Picture:
    """A drawing, where its files lie below the report, and its SVG as a data address."""

    drawing: Drawing
    png: str
    svg: str
    inline: str

    @property
    def of_one_trial(self) -> bool:
        return self.drawing.name.startswith("trial-")

    @classmethod
    def of(cls, drawing: Drawing, folder: Where) -> "Picture":
        png, svg = save(drawing, folder)
        data = base64.b64encode(svg.read_bytes()).decode()
        return cls(drawing, f"figures/{png.name}", f"figures/{svg.name}", f"data:image/svg+xml;base64,{data}")
