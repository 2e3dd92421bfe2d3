"""SVG elements as text: short numbers, escaped texts."""

from xml.sax.saxutils import escape, quoteattr

QUIET, DARK, RED, GREEN = "#64748b", "#0f172a", "#dc2626", "#059669"
_FONTS = "Inter, 'Segoe UI', 'Helvetica Neue', Helvetica, Arial, 'DejaVu Sans', sans-serif"
_HALO = {"paint-order": "stroke", "stroke": "#ffffff", "stroke-width": 3, "stroke-opacity": 0.75}


def element(name: str, content: str = "", /, **attributes: object) -> str:
    """An element. An underscore in an attribute's name stands for a hyphen; `content` is SVG already."""
    given = "".join(
        f" {key.replace('_', '-')}={quoteattr(_format(value))}" for key, value in attributes.items()
    )
    return f"<{name}{given}>{content}</{name}>" if content else f"<{name}{given}/>"


def titled(title: str, *elements: str) -> str:
    """A group with a title, which browsers show under the pointer."""
    return element("g", element("title", escape(title)) + "".join(elements))


def line(x: float, y: float, to_x: float, to_y: float, colour: str, **more: object) -> str:
    """A straight line."""
    ends = {"x1": float(x), "y1": float(y), "x2": float(to_x), "y2": float(to_y)}
    return element("line", **ends, stroke=colour, **more)


def box(
    x: float, y: float, width: float, height: float, colour: str, *, title: str = "", **more: object
) -> str:
    """A filled rectangle. `title`: shown under the pointer."""
    place = {"x": float(x), "y": float(y), "width": float(width), "height": float(height)}
    return element("rect", element("title", escape(title)) if title else "", **place, fill=colour, **more)


def dot(x: float, y: float, radius: float, colour: str) -> str:
    """A filled circle."""
    return element("circle", cx=float(x), cy=float(y), r=radius, fill=colour)


def text(x: float, y: float, words: str, *, halo: bool = False, **more: object) -> str:
    """A line of text. `halo`: white around it, where it covers other things."""
    given = {"font_size": 11.5, "fill": DARK} | more | (_HALO if halo else {})
    return element("text", escape(words), x=float(x), y=float(y), **given)


def document(width: float, height: float, label: str, elements: list[str]) -> str:
    """The whole file."""
    head = element(
        "svg", "\n{}\n", xmlns="http://www.w3.org/2000/svg", width=float(width), height=float(height),
        viewBox=f"0 0 {_format(width)} {_format(height)}", role="img", aria_label=label,
        font_family=_FONTS,
    )  # fmt: skip
    background = element("rect", width="100%", height="100%", fill="#ffffff")
    return head.replace("{}", "\n".join([background, *elements])) + "\n"


def _format(value: object) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)
