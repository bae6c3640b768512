"""The texts: what a Debian machine holds, divided into what may be trained on and what is measured with.

    packages      title and long description of every package, from the lists that apt keeps
                  (apt-get -o Acquire::Languages=en update)
    WordNet       lemmas, definitions and examples (the package wordnet-base, unpacked or installed)
    paragraphs    of /usr/share/doc and of the English manual pages
    questions     made from WordNet's common words: what a text's words mean together, and that "how do I" says little
    prose         of the packages fortunes, debian-handbook, gnome-user-docs and libreoffice-help-en-us, unpacked below one directory

Packages are divided by their source package: binaries of one source describe themselves with the same sentences. A fifth of the
sources is held out; no text that is trained on contains a title of theirs, and none is a paragraph of theirs.

    corpus.py OUT [--wordnet DIR] [--doc DIR] [--man DIR] [--limit N] [--prose DIR] [--prose-limit N]    writes the training texts, one a line:
                                            at most N of the first three, in random order, then at most N questions and prose
"""
import argparse
import glob
import gzip
import html
import os
import random
import re
import subprocess
import zlib

HELD_OUT_ONE_IN = 5
SPACES = re.compile(r"\s+")


def apt_files(kind, *conditions):
    listed = subprocess.run(["apt-get", "-o", "Acquire::Languages=en", "indextargets", "--format", "$(FILENAME)",
                             f"Created-By: {kind}", *conditions], check=True, capture_output=True, text=True)
    return listed.stdout.split()


def stanzas(path):
    """The fields of each paragraph of a control file; a field's further lines keep their first character."""
    text = subprocess.run(["/usr/lib/apt/apt-helper", "cat-file", path], check=True, capture_output=True).stdout.decode("utf-8")
    for stanza in text.split("\n\n"):
        fields = {}
        name = None
        for line in stanza.split("\n"):
            if line[:1] in (" ", "\t"):
                fields[name] += "\n" + line
            elif ":" in line:
                name, value = line.split(":", 1)
                fields[name] = value.strip()
        if fields:
            yield fields


class Package:
    def __init__(self, name, source, title, paragraphs):
        self.name = name
        self.source = source
        self.title = title
        self.paragraphs = paragraphs

    def held_out(self):
        return zlib.crc32(self.source.encode()) % HELD_OUT_ONE_IN == 0

    def document(self):
        """The long description without the package's name and title: a title is not to find its text by being in it."""
        text = " ".join(self.paragraphs)
        for phrase in (self.title, self.name):
            text = re.sub(rf"(?<!\w){re.escape(phrase)}(?!\w)", " ", text, flags=re.IGNORECASE)
        return SPACES.sub(" ", text).strip()


def paragraphs_of(description):
    """Debian's form: one space before each line, " ." for an empty one, two spaces before what is not to be wrapped."""
    paragraphs = [""]
    for line in description.split("\n"):
        line = line[1:]
        if line.strip() in ("", "."):
            paragraphs.append("")
        else:
            paragraphs[-1] += " " + line
    return [p for p in (SPACES.sub(" ", p).strip() for p in paragraphs) if p]


def packages(least_length=80):
    """All packages with a description of some length, by name; each title and each description once."""
    sources = {}
    for path in apt_files("Packages"):
        for fields in stanzas(path):
            sources[fields["Package"]] = fields.get("Source", fields["Package"]).split(" ")[0]
    files = apt_files("Translations", "Language: en")
    if not files:
        raise SystemExit("apt has no long descriptions: apt-get -o Acquire::Languages=en update")
    found = {}
    for path in files:
        for fields in stanzas(path):
            title, _, rest = fields.get("Description-en", "").partition("\n")
            name = fields.get("Package", "")
            if title and name and name not in found:
                found[name] = Package(name, sources.get(name, name), title.strip(), paragraphs_of(rest))
    titles, texts, kept = set(), set(), []
    for name in sorted(found):
        package = found[name]
        document = package.document()
        if len(document) >= least_length and package.title not in titles and document not in texts:
            titles.add(package.title)
            texts.add(document)
            kept.append(package)
    return kept


def sentences(text):
    return re.split(r"(?<=[.!?;:])\s+(?=[A-Z0-9*-])", text)


def package_texts(package):
    yield package.title
    yield " ".join(package.paragraphs)
    for paragraph in package.paragraphs:
        yield paragraph
        yield from sentences(paragraph)


def wordnet_texts(directory):
    for part in ("noun", "verb", "adj", "adv"):
        with open(os.path.join(directory, f"data.{part}"), encoding="utf-8") as f:
            for line in f:
                if line.startswith(" "):
                    continue
                data, _, gloss = line.partition(" | ")
                fields = data.split(" ")
                words = [fields[4 + 2 * i].replace("_", " ") for i in range(int(fields[3], 16))]
                words = ", ".join(re.sub(r"\((a|p|ip)\)$", "", w) for w in words)
                definition, *examples = re.split(r'; (?=")', gloss.strip())
                yield f"{words}: {definition}"
                yield definition
                yield words
                yield from (example.strip('"; ') for example in examples)


QUESTIONS = """What is {n}?|How do I {v} {n}?|Why does {n} {v}?|Where can I find {a} {n}?|How does {n} work?|What should I do when {n} is {a}?
When did people begin to {v} {n}?|How can I {v} {n} without {m}?|Who invented {n}?|What is the difference between {n} and {m}?|Is it {a} to {v} {n}?
Why is {n} {a}?|How much {n} does {m} need?|My {n} is {a}, how do I {v} it?|What is the best way to {v} {n}?|Which {n} should I choose for {m}?"""
QUESTION_COUNT = 40000


def common_words(directory, part, occurrences):
    with open(os.path.join(directory, f"data.{part}"), encoding="utf-8") as f:
        words = [line.split(" ", 5)[4] for line in f if not line.startswith(" ")]
    return [word.replace("_", " ") for word in words if occurrences.get(word.lower(), 0) > 1]


def wordnet_questions(directory, chance):
    occurrences = {}
    with open(os.path.join(directory, "cntlist.rev"), encoding="utf-8") as f:
        for line in f:
            key, _, count = line.split()
            word = key.split("%")[0]
            occurrences[word] = occurrences.get(word, 0) + int(count)
    nouns, verbs, adjectives = (common_words(directory, part, occurrences) for part in ("noun", "verb", "adj"))
    forms = re.split(r"[|\n]", QUESTIONS)
    for _ in range(QUESTION_COUNT):
        yield chance.choice(forms).format(n=chance.choice(nouns), m=chance.choice(nouns), v=chance.choice(verbs), a=chance.choice(adjectives))


def prose_below(root):
    for path in sorted(glob.glob(os.path.join(root, "usr/share/games/fortunes/*"))):
        if not path.endswith((".dat", ".u8")):
            yield from (text[:600] for text in re.split(r"\n%\n", read_text(path)))
    yield from paragraphs_below(os.path.join(root, "usr/share/doc/debian-handbook/html/en-US"), False)
    pages = ("usr/share/help/C/**/*.page", "usr/share/libreoffice/**/*.html", "usr/lib/libreoffice/help/**/*.html")
    for path in sorted(path for page in pages for path in glob.glob(os.path.join(root, page), recursive=True)):
        yield from re.split(r"\n\s*\n", plain_html(read_text(path).replace("</title>", "\n\n")))


def read_text(path):
    opener = gzip.open if path.endswith(".gz") else open
    with opener(path, "rb") as f:
        return f.read(4 << 20).decode("utf-8", "ignore")


def plain_manual(text):
    text = re.sub(r'^\.\\".*$', "", text, flags=re.M)
    text = re.sub(r"^\.(SH|TH|SS|TP|PP|P|IP|LP|sp|br|Sh|Pp|It|Bl|El|RS|RE|nf|fi).*$", "\n", text, flags=re.M)
    text = re.sub(r"^[.'](\w+) ?", "", text, flags=re.M)
    text = re.sub(r"\\f(\[\w*\]|\(..|.)|\\s[+-]?\d|\\[&/|^%]", "", text)
    return text.replace("\\-", "-").replace("\\(aq", "'").replace("\\e", "\\").replace('"', "")


def plain_html(text):
    text = re.sub(r"(?is)<(script|style|pre)\b.*?</\1>", " ", text)
    text = re.sub(r"(?i)</?(p|div|li|h\d|td|tr|dd|dt|br)\b[^>]*>", "\n\n", text)
    return html.unescape(re.sub(r"<[^>]*>", " ", text))


def is_prose(paragraph):
    letters = sum(c.isalpha() or c == " " for c in paragraph)
    return 40 <= len(paragraph) <= 1500 and letters >= 0.85 * len(paragraph) and paragraph.count(" ") >= 6


def paragraphs_below(root, manual):
    names = re.compile(r"(?i)change|copyright|license|licence|copying|news|authors|todo|thanks|^gcloud")
    pattern = os.path.join(root, "man[1-8]/*" if manual else "**/*")
    for path in sorted(glob.glob(pattern, recursive=True)):
        plain = re.sub(r"\.gz$", "", path).lower()
        if not os.path.isfile(path) or os.path.islink(path) or names.search(os.path.basename(path)):
            continue
        if not manual and not plain.endswith((".txt", ".md", ".html", ".htm", ".rst", "readme", "faq", "readme.debian", ".text")):
            continue
        text = read_text(path)
        if manual:
            text = plain_manual(text)
        elif plain.endswith(("html", "htm")):
            text = plain_html(text)
        for paragraph in re.split(r"\n\s*\n", text):
            paragraph = SPACES.sub(" ", paragraph).strip()
            if is_prose(paragraph):
                yield paragraph


def key_of(text):
    return re.sub(r"[\W_]+", " ", text.lower()).strip()


def held_out_keys(held_out):
    """Titles, which no training text may contain, by their first two words; and pieces, which none may be."""
    titles, pieces = {}, set()
    for package in held_out:
        title = key_of(package.title)
        titles.setdefault(" ".join(title.split(" ")[:2]), []).append(title)
        pieces.update(key_of(t) for t in package_texts(package))
    return titles, pieces


def is_free(text, titles, pieces):
    key = key_of(text)
    if not key or key in pieces:
        return False
    words = key.split(" ")
    for at in range(len(words)):
        for title in titles.get(" ".join(words[at:at + 2]), ()):
            if title.count(" ") >= 2 and (" " + title + " ") in (" " + key + " "):
                return False
    return True


def training_texts(options, chance):
    """-> the first three kinds, the last two"""
    every = packages(0)
    titles, pieces = held_out_keys([p for p in every if p.held_out()])
    parts = {"packages": (t for p in every if not p.held_out() for t in package_texts(p))}
    if options.wordnet:
        parts["WordNet"] = wordnet_texts(options.wordnet)
    parts["documentation"] = (t for root in options.doc for t in paragraphs_below(root, False))
    parts["manual pages"] = (t for root in options.man for t in paragraphs_below(root, True))
    rest = {}
    if options.wordnet:
        rest["questions"] = wordnet_questions(options.wordnet, chance)
    if options.prose:
        rest["prose"] = (t for t in (SPACES.sub(" ", p).strip() for p in prose_below(options.prose)) if is_prose(t))
    seen = set()
    return [[t for name, texts in kind.items() for t in fresh(name, texts, seen, titles, pieces)] for kind in (parts, rest)]


def fresh(name, texts, seen, titles, pieces):
    count = 0
    for text in texts:
        text = text[:3000]
        if text not in seen and is_free(text, titles, pieces):
            seen.add(text)
            count += 1
            yield text
    print(f"{name}: {count} texts")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out")
    parser.add_argument("--wordnet", help="its directory with data.noun")
    parser.add_argument("--doc", action="append", default=[])
    parser.add_argument("--man", action="append", default=[])
    parser.add_argument("--limit", type=int, default=200000)
    parser.add_argument("--prose")
    parser.add_argument("--prose-limit", type=int, default=30000)
    options = parser.parse_args()
    chance = random.Random(5)
    with open(options.out, "w", encoding="utf-8") as f:
        for texts, most in zip(training_texts(options, chance), (options.limit, options.prose_limit)):
            chance.shuffle(texts)
            f.writelines(text + "\n" for text in texts[:most])


if __name__ == "__main__":
    main()
