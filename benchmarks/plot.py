"""Draws the ratios as an SVG that can be read on a light page and on a dark one."""

from html import escape

from benchmarks.measure import Result

_WIDTH, _ROW, _BAR = 760, 34, 16
_LEFT, _RIGHT, _TOP, _BOTTOM = 270, 60, 64, 44
_STYLE = """
  text { font: 13px system-ui, -apple-system, "Segoe UI", sans-serif; fill: #24292f }
  .title { font-size: 15px; font-weight: 600 }
  .quiet { font-size: 12px; fill: #57606a }
  .page { fill: #ffffff; stroke: #d0d7de }
  .line { stroke: #d0d7de }
  .service { fill: #0969da }
  .other { fill: #8c959f }
  .goal { stroke: #bc4c00; stroke-width: 2 }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3 }
    .quiet { fill: #9198a1 }
    .page { fill: #0d1117; stroke: #3d444d }
    .line { stroke: #3d444d }
    .service { fill: #4493f8 }
    .other { fill: #6e7681 }
    .goal { stroke: #f0883e }
  }
"""


def plot(results: list[Result]) -> str:
    """Return bars whose lengths are the results' speeds, by the limit's."""
    height = _TOP + _ROW * len(results) + _BOTTOM
    end = _WIDTH - _RIGHT
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" role="img"'
        ' aria-label="Requests per second of processor time; 1 is the limit written by hand">',
        f"<style>{_STYLE}</style>",
        f'<rect class="page" x="0.5" y="0.5" width="{_WIDTH - 1}" height="{height - 1}" rx="6"/>',
        _text("Requests per second of the server's processor time", 20, 28, "title"),
        _text("where 1 is the same answer written by hand with FastAPI and asyncpg", 20, 47),
    ]
    for part in range(5):
        x = _x(part / 4, end)
        bottom = height - _BOTTOM
        parts.append(f'<line class="line" x1="{x}" x2="{x}" y1="{_TOP}" y2="{bottom}"/>')
        parts.append(_text(f"{part / 4:g}", x, bottom + 18, anchor="middle"))
    for number, it in enumerate(results):
        parts += _bar(it, _TOP + _ROW * number + _ROW // 2, end)
    x = _LEFT
    parts.append(f'<line class="goal" x1="{x}" x2="{x}" y1="{height - 18}" y2="{height - 6}"/>')
    parts.append(_text("what is aimed at", x + 8, height - 8))
    return "\n".join([*parts, "</svg>", ""])


def _x(ratio: float, end: int) -> float:
    return round(_LEFT + (end - _LEFT) * min(ratio, 1), 1)


def _bar(result: Result, middle: int, end: int) -> list[str]:
    name = escape(result.case.name.replace("`", ""))
    width = round(_x(result.ratio, end) - _LEFT, 1)
    kind = "service" if result.case.app.command[0].startswith("app.") else "other"
    parts = [
        f'<text x="{_LEFT - 12}" y="{middle + 4}" text-anchor="end">{name}</text>',
        f'<rect class="{kind}" x="{_LEFT}" y="{middle - _BAR // 2}" width="{width}"'
        f' height="{_BAR}" rx="2"/>',
    ]
    after = _LEFT + width
    if goal := result.case.goal:
        x = _x(goal, end)
        y = middle - _BAR // 2 - 3
        parts.append(f'<line class="goal" x1="{x}" x2="{x}" y1="{y}" y2="{y + _BAR + 6}"/>')
        # The figure stands beside the mark, and not below it.
        if -6 < x - after < 48:
            after = x
    parts.append(f'<text x="{after + 8}" y="{middle + 4}">{result.ratio:.2f}</text>')
    return parts


def _text(text: str, x: float, y: float, kind: str = "quiet", anchor: str = "start") -> str:
    return f'<text class="{kind}" x="{x}" y="{y}" text-anchor="{anchor}">{text}</text>'
