#!/usr/bin/env python3
"""Makes wordpiece.tsv.gz: texts, and the tokens that Hugging Face's `tokenizers` gives them, by which src/embed/wordpiece.c is tested.

First the vocabulary, BERT's, one token a line, and an empty line. Then one text a line: the text, a tab, its tokens as numbers in the
vocabulary ("-" is an unknown word). Bytes below 0x20, 0x7f and the backslash are written as \\xHH. Needs the packages of tools/distill/requirements.txt. The texts are made
up from the vocabulary, from every block of Unicode, and from sentences below; the seed is fixed.

    make_wordpiece.py [OUT]            makes the file
    make_wordpiece.py --every OUT      makes one with every single code point, too large to keep
"""
import gzip
import os
import random
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
sys.path.insert(0, os.path.join(ROOT, "tools", "distill"))
from teacher import plain_tokenizer, vocabulary  # noqa: E402

SENTENCES = """How do I reset the password of a router that I bought second-hand?
L'été dernier, nous avons mangé des crêpes à la fête du village.
Größere Änderungen müssen rückgängig gemacht werden können – überall.
El niño pidió jalapeños; ¿cuánto cuestan, señor? ¡Nada!
Съешь же ещё этих мягких французских булок, да выпей чаю.
Ξεσκεπάζω την ψυχοφθόρα βδελυγμία. ΟΔΥΣΣΕΥΣ ὈΔΥΣΣΕΎΣ
نص حكيم له سر قاطع وذو شأن عظيم مكتوب على ثوب أخضر، أليس كذلك؟
דג סקרן שט בים מאוכזב ולפתע מצא חברה. שָׁלוֹם עֲלֵיכֶם
ऋषियों को सताने वाले दुष्ट राक्षसों के राजा रावण का सर्वनाश।
เป็นมนุษย์สุดประเสริฐเลิศคุณค่า กว่าบรรดาฝูงสัตว์เดรัจฉาน
いろはにほへと ちりぬるを、わがよたれぞ。データベースの索引とは何か？
我能吞下玻璃而不伤身体。東京駅から京都まで新幹線で約二時間。
키스의 고유조건은 입술끼리 만나야 하고 특별한 기술은 필요치 않다.
Zażółć gęślą jaźń. Příliš žluťoučký kůň úpěl ďábelské ódy. İstanbul'da ılık bir gün.
Tiếng Việt có nhiều dấu: ế, ờ, ữ, ặ, ỡ, ậ.
x = {'a': [1, 2.5e-3], "b": None}  # a comment; return x->y[i++] && !z || a<<=2;
https://example.org/a/b_c?d=e&f=%20g#h mail@example.org C:\\Users\\me 192.168.0.1:8080 ::1/128
👩‍👩‍👧‍👦 family, 🏴󠁧󠁢󠁳󠁣󠁴󠁿 flag, 👍🏽 thumb, ❤️ heart, 1️⃣ keycap, 🇩🇪🇫🇷 flags
½ ¾ ² ³ ① ㊤ ㎏ ﬁ ﬂ ﬃ ™ © ® № ℃ Å Ω K ſ ẞ ŉ ǆ
[CLS] and [SEP], [MASK] [UNK] [PAD] are text here, [unused1] too; ##ing ## #ing""".split("\n")
ALPHABETS = [(0x20, 0x7F), (0xA0, 0x250), (0x250, 0x370), (0x370, 0x530), (0x530, 0x700), (0x900, 0xE00), (0xE00, 0x10A0), (0x1100, 0x1200),
             (0x1E00, 0x2000), (0x2000, 0x2070), (0x2070, 0x2C00), (0x3000, 0x3200), (0x3400, 0x9FFF), (0xAC00, 0xD7A4),
             (0xF900, 0xFB00), (0xFB00, 0x10000), (0x10000, 0x10800), (0x1D100, 0x1D800), (0x1F300, 0x1FB00), (0x20000, 0x2FA20)]
MARKS = [0x300, 0x301, 0x308, 0x323, 0x327, 0x345, 0x5B0, 0x5BC, 0x64B, 0x651, 0x93C, 0x94D, 0x302E, 0x302F, 0x1B44, 0x8D4, 0x1D165,
         0x1D16D, 0x1D16E, 0x1E000, 0x1E94A, 0xA953, 0x20DD, 0xFE0F, 0x200D]
ODD = [0, 1, 7, 8, 9, 10, 11, 12, 13, 0x1B, 0x1F, 0x7F, 0x85, 0xA0, 0xAD, 0x200B, 0x200E, 0x2028, 0x2029, 0x202F, 0x205F, 0x3000, 0xFEFF, 0xFFFD,
       0xE000, 0xE0001, 0xFFFE, 0x10FFFF, 0x378, 0x2065]


def is_scalar(code):
    return not 0xD800 <= code < 0xE000


class Maker:
    def __init__(self, tokens):
        self.random = random.Random(4)
        self.whole = [t for t in tokens if not t.startswith("##")]
        self.parts = [t[2:] for t in tokens if t.startswith("##") and len(t) > 2]

    def word(self):
        r = self.random
        word = r.choice(self.whole) + "".join(r.choice(self.parts) for _ in range(r.choice((0, 0, 0, 1, 1, 2, 5))))
        return r.choice((str.lower, str.lower, str.title, str.upper))(word)

    def words(self):
        r = self.random
        return "".join(self.word() + r.choice((" ", " ", ", ", ". ", "-", "'", "  ", "\n", "\t", "/", "_")) for _ in range(r.randint(1, 8)))

    def letters(self):
        r = self.random
        first, end = r.choice(ALPHABETS)
        letters = [chr(c) for c in (r.randrange(first, end) for _ in range(r.randint(1, 12))) if is_scalar(c)]
        return "".join(letter + (" " if r.random() < 0.15 else "") for letter in letters)

    def marked(self):
        r = self.random
        return "".join(c + "".join(chr(r.choice(MARKS)) for _ in range(r.choice((0, 0, 1, 2, 3)))) for c in self.word()[:20] + self.letters())

    def odd(self):
        r = self.random
        return "".join(r.choice((self.word()[:8], chr(r.choice(ODD)), chr(r.choice(ODD)), self.letters()[:2])) for _ in range(r.randint(2, 8)))

    def mixed(self):
        r = self.random
        return "".join(r.choice((self.word, self.letters, lambda: r.choice(SENTENCES)[:r.randint(1, 25)]))() for _ in range(r.randint(1, 4)))

    def blocks(self):
        """Every code point of the lower planes' alphabets, a few in one text, each between letters."""
        codes = [c for first, end in ALPHABETS if end - first < 4000 for c in range(first, end) if is_scalar(c)]
        for at in range(0, len(codes), 8):
            yield "".join("x" + chr(c) for c in codes[at:at + 8])

    def lengths(self):
        for count in (1, 2, 49, 50, 98, 99, 100, 101, 102, 200, 1000):
            for letter in ("a", "é", "ß", "中", "각", "😀", "İ", "ab", "a\u0301", "\u302e", "=\u0338"):
                yield letter * count
                yield "go " + letter * count + " on"

    def texts(self):
        yield from ("", " ", "\n\t\r ", *SENTENCES)
        yield from (s.upper() for s in SENTENCES)
        yield from self.lengths()
        yield from self.blocks()
        for make, count in ((self.words, 2500), (self.letters, 2500), (self.marked, 1500), (self.odd, 1500), (self.mixed, 2000)):
            yield from (make() for _ in range(count))


def escaped(text):
    return "".join(f"\\x{ord(c):02x}" if c < " " or c in "\x7f\\" else c for c in text)


def main():
    every = sys.argv[1:2] == ["--every"]
    out = sys.argv[-1] if len(sys.argv) > 1 else os.path.join(HERE, "wordpiece.tsv.gz")
    tokenizer = plain_tokenizer()
    tokenizer.encode_special_tokens = True
    tokens, _ = vocabulary(tokenizer)
    number = {token: str(i) for i, token in enumerate(tokens)}
    if every:
        texts = ["a" + chr(c) + "b " + chr(c) for c in range(0x110000) if is_scalar(c)]
    else:
        texts = list(dict.fromkeys(Maker(tokens).texts()))
    lines = [token + "\n" for token in tokens] + ["\n"]
    for text, made in zip(texts, tokenizer.encode_batch(texts, add_special_tokens=False)):
        lines.append(escaped(text) + "\t" + " ".join("-" if t == "[UNK]" else number[t] for t in made.tokens) + "\n")
    with open(out, "wb") as f:
        f.write(gzip.compress("".join(lines).encode(), 9, mtime=0))
    print(f"{len(tokens)} tokens, {len(texts)} texts")


if __name__ == "__main__":
    main()
