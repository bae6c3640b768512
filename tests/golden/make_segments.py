"""Writes tests/golden/segments.txt: the tests that come with Unicode (Debian's package unicode-data) for sentences and grapheme
clusters, a line each: S or G, then the segments as UTF-8 in hexadecimal digits.

    make_segments.py [/usr/share/unicode] > tests/golden/segments.txt
"""
import sys
from pathlib import Path


def segments(line):
    """"÷ 0061 × 0062 ÷" -> the texts between the breaks"""
    pieces = line.partition("#")[0].split("÷")
    return ["".join(chr(int(code, 16)) for code in piece.replace("×", " ").split()) for piece in pieces if piece.strip()]


def main():
    root = Path(sys.argv[1] if len(sys.argv) > 1 else "/usr/share/unicode") / "auxiliary"
    for kind, name in (("S", "SentenceBreakTest.txt"), ("G", "GraphemeBreakTest.txt")):
        for line in (root / name).read_text(encoding="utf-8").splitlines():
            if not line.startswith("÷"):
                continue
            texts = segments(line)
            if any(0xD800 <= ord(c) < 0xE000 for text in texts for c in text):
                continue  # no UTF-8 has a surrogate
            print(kind, *(text.encode().hex() for text in texts))


if __name__ == "__main__":
    main()
