"""This file is a pen for SVG: few shapes, numbers short, texts escaped."""

from collections.abc import Iterator
from contextlib import contextmanager
from xml.sax.saxutils import escape, quoteattr

_FONTS = "Inter, 'Segoe UI', 'Helvetica Neue', Helvetica, Arial, 'DejaVu Sans', sans-serif"
_PAPER = "#ffffff"


class Ink:
    """Shapes in the order they are drawn."""

    def __init__(self) -> None:
        self._parts: list[str] = []

    def line(
        self, x: float, y: float, to_x: float, to_y: float, colour: str,
        *, width: float = 1, opacity: float = 1, dash: str = "",
    ) -> None:  # fmt: skip
        """A straight line."""
        more = f' stroke-dasharray="{dash}"' if dash else ""
        more += f' stroke-opacity="{opacity:g}"' if opacity < 1 else ""
        self._parts.append(
            f'<line x1="{_n(x)}" y1="{_n(y)}" x2="{_n(to_x)}" y2="{_n(to_y)}" '
            f'stroke="{colour}" stroke-width="{width:g}"{more}/>'
        )

    def box(
        self,
        x: float,
        y: float,
        width: float,
        height: float,
        colour: str,
        *,
        opacity: float = 1,
        title: str = "",
    ) -> None:
        """A filled rectangle."""
        more = f' fill-opacity="{opacity:g}"' if opacity < 1 else ""
        inner = f"><title>{escape(title)}</title></rect>" if title else "/>"
        shape = f'<rect x="{_n(x)}" y="{_n(y)}" width="{_n(width)}" height="{_n(height)}"'
        self._parts.append(f'{shape} fill="{colour}"{more}{inner}')

    def dot(self, x: float, y: float, radius: float, colour: str) -> None:
        """A filled circle."""
        self._parts.append(f'<circle cx="{_n(x)}" cy="{_n(y)}" r="{radius:g}" fill="{colour}"/>')

    def ring(self, x: float, y: float, radius: float, colour: str) -> None:
        """A circle that is not filled."""
        shape = f'<circle cx="{_n(x)}" cy="{_n(y)}" r="{radius:g}" fill="none"'
        self._parts.append(f'{shape} stroke="{colour}" stroke-width="1.5"/>')

    def cross(self, x: float, y: float, size: float, colour: str) -> None:
        """Two strokes."""
        self.line(x - size, y - size, x + size, y + size, colour, width=2.2)
        self.line(x - size, y + size, x + size, y - size, colour, width=2.2)

    def text(
        self, x: float, y: float, words: str,
        *, size: float, fill: str = "#0f172a", weight: int = 400, anchor: str = "start", halo: bool = False,
    ) -> None:  # fmt: skip
        """A line of text. `halo`: white around it, where it lies on other things."""
        more = f' font-weight="{weight}"' if weight != 400 else ""
        more += f' text-anchor="{anchor}"' if anchor != "start" else ""
        more += (
            f' paint-order="stroke" stroke="{_PAPER}" stroke-width="3" stroke-opacity=".75"' if halo else ""
        )
        self._parts.append(
            f'<text x="{_n(x)}" y="{_n(y)}" font-size="{size:g}" fill="{fill}"{more}>{escape(words)}</text>'
        )

    @contextmanager
    def group(self, title: str) -> Iterator[None]:
        """What is drawn within has this title, which browsers show under the pointer."""
        self._parts.append(f"<g><title>{escape(title)}</title>")
        yield
        self._parts.append("</g>")

    def svg(self, width: float, height: float, label: str) -> str:
        """The whole file."""
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{_n(width)}" height="{_n(height)}" '
            f'viewBox="0 0 {_n(width)} {_n(height)}" role="img" aria-label={quoteattr(label)} '
            f'font-family="{_FONTS}">\n<rect width="100%" height="100%" fill="{_PAPER}"/>\n'
            + "\n".join(self._parts)
            + "\n</svg>\n"
        )


def _n(number: float) -> str:
    return f"{number:.2f}".rstrip("0").rstrip(".")
