"""Writes src/embed/segments_unicode.c: of each code point, what it is to the sentence and to the grapheme cluster rules of UAX 29.

Both come from the Unicode character database, as Debian's package unicode-data installs it. A newer version may move the cuts of
texts that are cut later, and nothing else: chunks that are stored stay as they are.

    segment_tables.py [/usr/share/unicode] > src/embed/segments_unicode.c
"""
import re
import sys
from pathlib import Path

LAST = 0x10FFFF
BLOCK = 128  # code points
BRANCH = 32  # blocks
SENTENCE = {"Other": "OTHER", "CR": "CR", "LF": "LF", "Sep": "SEPARATOR", "Extend": "EXTEND", "Format": "FORMAT", "Sp": "SPACE",
            "Lower": "LOWER", "Upper": "UPPER", "OLetter": "LETTER", "Numeric": "NUMERIC", "ATerm": "ATERM", "STerm": "STERM",
            "SContinue": "CONTINUE", "Close": "CLOSE"}
CLUSTER = {"Other": "OTHER", "CR": "CR", "LF": "LF", "Control": "CONTROL", "Extend": "EXTEND", "ZWJ": "JOINER",
           "Regional_Indicator": "REGIONAL", "Prepend": "PREPEND", "SpacingMark": "SPACING", "L": "HANGUL_L", "V": "HANGUL_V",
           "T": "HANGUL_T", "LV": "HANGUL_LV", "LVT": "HANGUL_LVT", "Extended_Pictographic": "PICTURE"}
NAMES = [chr(c) for c in range(ord("("), ord("\\"))]  # of pairs, in the blocks
HEADER = """/*
 * segments_unicode.c - what each code point is to UAX 29. Made by tools/unicode/segment_tables.py from Unicode {version}; change it
 * there.
 */
#include "embed/segments_unicode.h"
"""


def read_property(path, wanted):
    """-> {code point: value}, and the version that the file says it is of"""
    text = path.read_text(encoding="utf-8")
    values = {}
    for line in text.splitlines():
        fields = [f.strip() for f in line.partition("#")[0].split(";")]
        if len(fields) < 2 or fields[1] not in wanted:
            continue
        first, _, last = fields[0].partition("..")
        for code in range(int(first, 16), int(last or first, 16) + 1):
            values[code] = fields[1]
    return values, re.search(r"(\d+\.\d+)", text).group(1)


def distinct(items):
    """-> the different ones in the order in which they come, and the place of each item among them"""
    places = {}
    return places, [places.setdefault(item, len(places)) for item in items]


def numbers(values):
    lines = [", ".join(map(str, values[i:i + BRANCH])) for i in range(0, len(values), BRANCH)]
    return ",\n".join("    " + line for line in lines)


def main():
    root = Path(sys.argv[1] if len(sys.argv) > 1 else "/usr/share/unicode")
    sentence, version = read_property(root / "auxiliary/SentenceBreakProperty.txt", SENTENCE)
    cluster, _ = read_property(root / "auxiliary/GraphemeBreakProperty.txt", CLUSTER)
    pictures, _ = read_property(root / "emoji/emoji-data.txt", {"Extended_Pictographic"})
    pairs = [(sentence.get(c, "Other"), cluster.get(c, pictures.get(c, "Other"))) for c in range(LAST + 1)]
    kinds, of_code = distinct(pairs)
    text = "".join(NAMES[kind] for kind in of_code)
    blocks, of_block = distinct([text[i:i + BLOCK] for i in range(0, len(text), BLOCK)])
    branches, of_branch = distinct([tuple(of_block[i:i + BRANCH]) for i in range(0, len(of_block), BRANCH)])
    assert len(kinds) <= len(NAMES) and len(blocks) <= 256 and len(branches) <= 256

    print(HEADER.format(version=version))
    print("const struct segment_kind segment_kinds[] = {")
    print(",\n".join(f"    {{SENTENCE_{SENTENCE[s]}, CLUSTER_{CLUSTER[c]}}}" for s, c in kinds) + "};\n")
    print("const uint8_t segment_branches[] = {")
    print(numbers(of_branch) + "};\n")
    print("const uint8_t segment_blocks_of[][SEGMENT_BRANCH] = {")
    print(",\n".join("    {" + ", ".join(map(str, branch)) + "}" for branch in branches) + "};\n")
    print("const char *const segment_blocks[] = {")
    print(",\n".join('    "' + block.replace("?", "\\?") + '"' for block in blocks) + "};")  # two in a row would be a trigraph


if __name__ == "__main__":
    main()
