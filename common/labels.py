"""Names that a learner chose, of files and classes, in a form that a terminal and a figure show."""

from __future__ import annotations

import functools
import unicodedata

from matplotlib.font_manager import FontProperties, findfont, fontManager
from matplotlib.ft2font import FT2Font

from common.terminal import one_line

# Fonts with Chinese, Japanese or Korean characters, as systems bring them.
ASIAN_FONTS = (
    "PingFang SC", "Hiragino Sans GB", "Heiti TC", "Microsoft YaHei", "SimHei", "Yu Gothic",
    "Malgun Gothic", "Noto Sans CJK SC", "Noto Sans CJK JP", "Noto Sans SC", "Source Han Sans SC",
    "WenQuanYi Micro Hei", "WenQuanYi Zen Hei", "Droid Sans Fallback", "Arial Unicode MS",
)  # fmt: skip


def shortened(name: str, longest: int) -> str:
    """The beginning and the end of a name that has more than `longest` characters."""
    if len(name) <= longest:
        return name
    end = longest // 2
    return f"{name[: longest - end - 1]}…{name[-end:]}"


def drawable(name: str, longest: int = 28) -> str:
    """The name as matplotlib draws it: short, no formula, `?` where no font has a glyph.

    It is as broad as `longest` ordinary letters at most; capitals and Chinese letters are broader.
    """
    known = _characters_with_glyphs()
    drawn = "".join(letter if ord(letter) in known else "?" for letter in one_line(name))
    breadth = sum(map(_breadth, drawn))
    if breadth > longest:
        drawn = shortened(drawn, int(longest * len(drawn) / breadth))
    return drawn.replace("$", r"\$")


def _breadth(letter: str) -> float:
    if unicodedata.east_asian_width(letter) in "WF":
        return 2
    return 1.3 if letter.isupper() else 1


@functools.cache
def font_families() -> list[str]:
    """matplotlib's own font, and those of this machine that have the characters it lacks."""
    installed = {font.name for font in fontManager.ttflist}
    return ["DejaVu Sans", *[name for name in ASIAN_FONTS if name in installed]]


@functools.cache
def _characters_with_glyphs() -> frozenset[int]:
    fonts = [FT2Font(findfont(FontProperties(family=[name]))) for name in font_families()]
    return frozenset().union(*(font.get_charmap() for font in fonts))
