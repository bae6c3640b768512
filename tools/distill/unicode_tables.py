"""Writes src/embed/wordpiece_unicode.c: what BERT's basic tokenizer does with each code point, asked of the reference itself.

Hugging Face's `tokenizers` classifies by the Unicode version that it was built with, so code points that have come since have no
marks and no case for it. A table that is taken from its answers gives the same tokens for every one of them; and the next version
of a shared library cannot move a vector.

    unicode_tables.py > src/embed/wordpiece_unicode.c
"""
import itertools
import unicodedata

from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer

NORMALIZER = BertNormalizer(clean_text=True, handle_chinese_chars=True, strip_accents=None, lowercase=True)
PRE_TOKENIZER = BertPreTokenizer()
LAST = 0x10FFFF
HANGUL = range(0xAC00, 0xD7A4)
KINDS = {"DROPPED": "PIECE_DROPPED", "SPACE": "PIECE_SPACE", "ALONE": "PIECE_ALONE"}
FIRST_CLASS = 4  # kinds from here on are combining classes; no class below 6 is in use
HEADER = """/*
 * wordpiece_unicode.c - what BERT's basic tokenizer does with each code point. Made by tools/distill/unicode_tables.py from the
 * answers of Hugging Face's `tokenizers` {version}; change it there.
 */
#include "embed/wordpiece_unicode.h"
"""


def normalized(text):
    return NORMALIZER.normalize_str(text)


def is_alone(character):
    return [piece for piece, _ in PRE_TOKENIZER.pre_tokenize_str("a" + character + "a")] == ["a", character, "a"]


def look_at(code):
    """-> kind, what it becomes"""
    becomes = normalized("a" + chr(code) + "a")[1:-1]
    if becomes == "":
        return "DROPPED", chr(code)
    if becomes == " ":
        return "SPACE", chr(code)
    if becomes[0] == " ":
        assert len(becomes) == 3 and becomes[2] == " "
        return "ALONE", becomes[1]
    alone = [is_alone(c) for c in becomes]
    assert len(becomes) == 1 or not any(alone), hex(code)
    return ("ALONE" if alone[0] else "LETTER"), becomes


def combining_classes(codes):
    """Those of the code points that keep their place in the reference's text, or lose it to one of a lower class."""
    probes = [(0x302E, 224), (0x1D165, 216), (0x1D16D, 226), (0x16FF0, 6), (0x1B44, 9)]
    classes = {}
    for code in codes:
        lower = [c for probe, c in probes if probe != code and normalized("a" + chr(probe) + chr(code))[1:] == chr(code) + chr(probe)]
        higher = [c for probe, c in probes if probe != code and normalized("a" + chr(code) + chr(probe))[1:] == chr(probe) + chr(code)]
        if lower or higher:
            classes[code] = unicodedata.combining(chr(code))
    for a, b in itertools.product(classes, repeat=2):
        expected = chr(b) + chr(a) if classes[b] < classes[a] else chr(a) + chr(b)
        assert normalized("a" + chr(a) + chr(b))[1:] == expected, (hex(a), hex(b))
    return classes


def runs_of_kinds(kinds):
    runs = []
    for code in sorted(kinds):
        if runs and runs[-1][1] == code - 1 and runs[-1][2] == kinds[code]:
            runs[-1][1] = code
        else:
            runs.append([code, code, kinds[code]])
    return runs


def runs_of_shifts(shifts):
    """Longest runs of code points, all or every second one, that are shifted alike."""
    codes = sorted(shifts)
    at = 0
    while at < len(codes):
        ends = []
        for step in (1, 2):
            end = at
            while end + 1 < len(codes) and codes[end + 1] == codes[end] + step and shifts[codes[end + 1]] == shifts[codes[at]]:
                end += 1
            ends.append(end)
        step = 1 if ends[0] >= ends[1] else 2
        yield codes[at], codes[ends[step - 1]], step, shifts[codes[at]]
        at = ends[step - 1] + 1


def write_rows(rows, width=150):
    line = "   "
    for i, row in enumerate(rows):
        text = " " + row + ("," if i + 1 < len(rows) else "};")
        if len(line) + len(text) > width:
            print(line)
            line = "   "
        line += text
    print(line)


def main():
    import tokenizers
    kinds, shifts, several = {}, {}, {}
    for code in range(LAST + 1):
        if 0xD800 <= code < 0xE000:
            continue
        kind, becomes = look_at(code)
        if kind != "LETTER":
            kinds[code] = KINDS[kind]
        if code in HANGUL:
            assert becomes == unicodedata.normalize("NFD", chr(code))
        elif len(becomes) > 1:
            several[code] = becomes
        elif becomes != chr(code):
            shifts[code] = ord(becomes) - code
    letters = [c for c in range(LAST + 1) if unicodedata.combining(chr(c)) and c not in kinds and c not in shifts]
    classes = combining_classes(letters)
    kinds.update({code: str(value) for code, value in classes.items()})
    for code, becomes in several.items():
        assert len(becomes) <= 3 and code not in kinds
    print(HEADER.format(version=tokenizers.__version__))
    print("const struct piece_kind_run piece_kind_runs[] = {")
    runs = runs_of_kinds(kinds)
    write_rows([f"{{0x{a:x}, 0x{b:x}, {kind}}}" for a, b, kind in runs])
    print(f"const size_t piece_kind_run_count = {len(runs)};\n")
    runs = list(runs_of_shifts(shifts))
    print("const struct piece_shift_run piece_shift_runs[] = {")
    write_rows([f"{{0x{a:x}, 0x{b:x}, {step}, {shift}}}" for a, b, step, shift in runs])
    print(f"const size_t piece_shift_run_count = {len(runs)};\n")
    print("const struct piece_letters piece_letters[] = {")
    write_rows([f"{{0x{c:x}, {{{', '.join(hex(ord(m)) for m in b)}}}}}" for c, b in sorted(several.items())])
    print(f"const size_t piece_letters_count = {len(several)};")


if __name__ == "__main__":
    main()
