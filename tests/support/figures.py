"""What a figure shows, and what is wrong with its layout."""

from collections.abc import Iterator

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text

from raycifar.analysis.figures.style import Drawing, style


def shown_texts(drawing: Drawing) -> list[Text]:
    """All texts of a figure but the labels of ticks outside the axes, which matplotlib keeps and does not draw."""
    hidden: set[int] = set()
    for axes in drawing.figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            low, high = sorted(axis.get_view_interval())
            outside = [tick for tick in axis.get_major_ticks() if not low - 1e-9 <= tick.get_loc() <= high + 1e-9]
            hidden |= {id(label) for tick in outside for label in (tick.label1, tick.label2)}
    texts = drawing.figure.findobj(Text)
    return [t for t in texts if id(t) not in hidden and isinstance(t, Text) and t.get_text().strip()]


def problems_of_layout(drawing: Drawing) -> Iterator[str]:
    canvas = FigureCanvasAgg(drawing.figure)
    with style():
        canvas.draw()
    width, height = canvas.get_width_height()
    boxes = [(t.get_text(), t.get_window_extent(canvas.get_renderer())) for t in shown_texts(drawing)]
    for i, (text, box) in enumerate(boxes):
        if box.x0 < -0.5 or box.y0 < -0.5 or box.x1 > width + 0.5 or box.y1 > height + 0.5:
            yield f"{drawing.name}: {text!r} is clipped"
        for other, its in boxes[i + 1 :]:
            if min(box.x1, its.x1) - max(box.x0, its.x0) > 1 and min(box.y1, its.y1) - max(box.y0, its.y0) > 1:
                yield f"{drawing.name}: {text!r} overlaps {other!r}"
