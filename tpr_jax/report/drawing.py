"""How a figure looks: as PNG, once for light and once for dark pages."""

import dataclasses
import io
from collections.abc import Callable, Mapping
from typing import Any

# Lines: Okabe and Ito's colours, which colour-blind readers can tell apart; lighter
# on dark paper.
THEMES: Mapping[str, Mapping[str, Any]] = {
  "light": dict(
    paper="#ffffff",
    ink="#1d2129",
    soft="#6b7280",
    grid="#e5e7eb",
    lines=("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"),
  ),
  "dark": dict(
    paper="#171a21",
    ink="#e6e8ec",
    soft="#9aa1ad",
    grid="#2c313b",
    lines=("#4fa8e0", "#f08a45", "#2fc59a", "#e3a3c5", "#f0c24f", "#9cd4f5"),
  ),
}


@dataclasses.dataclass(frozen=True)
class Figure:
  """One figure: file name, what it shows, its PNG in both themes, how to read it."""

  name: str
  title: str
  light: bytes
  dark: bytes
  caption: str = ""


def figure(
  name: str,
  title: str,
  paint: Callable[[Any, Mapping[str, Any]], None],
  *,
  caption: str = "",
  size: tuple[float, float] = (5.4, 3.3),
  heights: tuple[float, ...] = (1.0,),
) -> Figure:
  """Has `paint` draw both themes.

  Args:
    paint: (axes, theme) -> None; with several `heights`, a list of axes, one below the
      other with one x axis.
    size: inches at 150 dots.
  """
  pictures, margins = {}, None
  for key, theme in THEMES.items():
    canvas = _canvas(paint, theme, size, heights)
    if margins is None:
      canvas.tight_layout(pad=0.6)
      margins = canvas.subplotpars
    else:  # the same texts: the same room for them
      sides = ("left", "right", "bottom", "top", "hspace")
      canvas.subplots_adjust(**{side: getattr(margins, side) for side in sides})
    out = io.BytesIO()
    canvas.savefig(out, format="png", facecolor=theme["paper"])
    pictures[key] = out.getvalue()
  return Figure(name, title, caption=caption, **pictures)


def legend(axes: Any, theme: Mapping[str, Any], **more: Any) -> None:
  """Above the axes, in one line."""
  axes.legend(
    **dict(
      dict(
        frameon=False,
        fontsize=8,
        labelcolor=theme["ink"],
        loc="lower left",
        bbox_to_anchor=(-0.01, 1.0),
        borderaxespad=0.2,
        handlelength=1.0,
        handletextpad=0.5,
        columnspacing=1.0,
        ncols=6,
      ),
      **more,
    )
  )


def percent(axis: Any) -> None:
  """Ticks as "10 %"."""
  from matplotlib.ticker import FuncFormatter

  axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g} %"))


def plain(axis: Any) -> None:
  """Ticks of a logarithmic axis as 1, 10, 100."""
  from matplotlib.ticker import FuncFormatter, LogLocator

  axis.set_major_locator(LogLocator(10))
  axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
  axis.set_minor_locator(LogLocator(10, (1, 2, 5)))
  axis.set_minor_formatter("")


def label_x(axes: Any, theme: Mapping[str, Any], text: str) -> None:
  axes.set_xlabel(text, color=theme["soft"], fontsize=9)


def _canvas(paint: Callable, theme: Mapping[str, Any], size, heights) -> Any:
  # Lazily: matplotlib takes a second to import, and only the report needs it. Figure
  # and canvas without pyplot: no display, no global state.
  from matplotlib.backends.backend_agg import FigureCanvasAgg
  from matplotlib.figure import Figure as Canvas

  canvas = Canvas(figsize=size, dpi=150, facecolor=theme["paper"])
  FigureCanvasAgg(canvas)
  grid = dict(height_ratios=heights)
  found = canvas.subplots(
    len(heights), sharex=True, squeeze=False, gridspec_kw=grid
  ).ravel()
  for axes in found:
    axes.set_facecolor(theme["paper"])
  paint(found[0] if len(found) == 1 else list(found), theme)
  for axes in found:
    axes.tick_params(which="both", colors=theme["soft"], labelsize=8.5, length=0)
    axes.yaxis.get_offset_text().set_color(theme["soft"])
    axes.grid(axis="y", color=theme["grid"], linewidth=0.8)
    axes.set_axisbelow(True)
    for side, spine in axes.spines.items():
      spine.set_visible(side == "bottom")
      spine.set_color(theme["grid"])
  return canvas
