"""Which font a chart should use, so that class names of any language come out right.

No font is shipped: the fonts of the machine are searched, and where none has all letters, a note
names the Debian package that has one.
"""

import logging
import os

from common.console import say

FALLBACK = "DejaVu Sans"  # comes with matplotlib
# Fonts that come with systems or their packages, those that know Chinese first.
FONTS = (
    "NotoSansCJK-Regular.ttc",
    "NotoSansCJKsc-Regular.otf",
    "NotoSansSC-Regular.otf",
    "wqy-microhei.ttc",
    "wqy-zenhei.ttc",
    "DroidSansFallbackFull.ttf",
    "PingFang.ttc",
    "STHeiti Light.ttc",
    "Hiragino Sans GB.ttc",
    "msyh.ttc",
    "simsun.ttc",
    "simhei.ttf",
    "DejaVuSans.ttf",
    "LiberationSans-Regular.ttf",
    "NotoSans-Regular.ttf",
    "Arial.ttf",
    "arial.ttf",
)
LONGEST = 30  # columns of a terminal that a name may take in a chart; Chinese takes two a letter


def for_names(names):
    """Chooses fonts that have the letters of some class names.

    The first font of `FONTS` that has all of them is taken where DejaVu
    Sans, which comes with matplotlib, lacks some. Where none has all, that with the most
    is taken, names that still lack letters become `class ID`, and a line on standard
    error says what helps.

    Args:
        names: sequence of str, class names in the order of their ids.

    Returns:
        (families, words): what matplotlib's `font.family` takes, and for each name the
        text to draw, in one line of at most `LONGEST` columns.
    """
    names = [" ".join(name.split()) for name in names]
    needed_letters = set("".join(names)) - {" "}
    families, known_letters = _choose(needed_letters)
    words, undrawable = [], []
    for class_id, name in enumerate(names):
        if set(name) - {" "} <= known_letters:
            words.append(shorten(name))
        else:
            words.append(f"class {class_id}")
            undrawable.append(name)
    if undrawable:
        say(
            f"note: no font found for {len(undrawable)} class names, which the charts show as "
            "their ids; the package fonts-noto-cjk brings one for Chinese, Japanese and Korean"
        )
    return families, words


def shorten(name, longest=LONGEST):
    """`name`, its middle left out where it takes more than `longest` columns.

    The middle, because long names often differ at their ends only.

    Args:
        name: str.
        longest: int, columns of a terminal that the result may take.

    Returns:
        str.
    """
    if columns(name) <= longest:
        return name
    first, last = name, name
    while columns(first) > (longest - 3) * 2 // 3:
        first = first[:-1]
    while columns(last) > (longest - 3) // 3:
        last = last[1:]
    return f"{first}...{last}"


def columns(text):
    """Counts the columns of a terminal that a text takes; Chinese takes two per letter.

    Args:
        text: str.

    Returns:
        int.
    """
    import unicodedata

    return sum(2 if unicodedata.east_asian_width(letter) in "WF" else 1 for letter in text)


def _choose(needed):
    """(families, the letters of `needed` that they have)."""
    from matplotlib import font_manager

    # "Font family not found" and the like would break into progress bars.
    logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)
    default_letters = _letters(font_manager.findfont(FALLBACK), needed)
    if default_letters == needed:
        return [FALLBACK], default_letters
    # Searched again: matplotlib remembers the fonts of its first use, and would not see one
    # that was installed since, after the line above asked for it.
    font_paths = {os.path.basename(path): path for path in sorted(font_manager.findSystemFonts())}
    best_font, best_letters = None, set()
    for name in FONTS:
        if name in font_paths:
            letters = _letters(font_paths[name], needed)
            if len(letters) > len(best_letters):
                best_font, best_letters = font_paths[name], letters
            if best_letters == needed:
                break
    if not best_letters - default_letters:
        return [FALLBACK], default_letters
    font_manager.fontManager.addfont(best_font)
    return [_family(best_font), FALLBACK], best_letters | default_letters


def _letters(path, needed):
    """Those of `needed` that a font file has; an empty set where the file is not a font."""
    from matplotlib.ft2font import FT2Font

    try:
        known = FT2Font(path).get_charmap()
    except (OSError, RuntimeError):
        return set()
    return {letter for letter in needed if ord(letter) in known}


def _family(path):
    """The name of a font file's family, the simplified Chinese one of a collection."""
    from matplotlib.ft2font import FT2Font

    first = FT2Font(path)
    names = [first.family_name]
    names += [FT2Font(path, face_index=n).family_name for n in range(1, first.num_faces)]
    return next((name for name in names if name.endswith(" SC")), names[0])
