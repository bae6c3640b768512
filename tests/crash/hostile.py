"""Archives, logs and directories as an enemy, or a strange program, would make them: byte by byte, since no honest tool writes them.

    for case in cases(): arguments = case.make(directory); quire restore *arguments; case.expect

`expect` is "refused", "good" (harmless: what it holds is restored, case.holds says how much), or "either" (both are right, as long as nothing breaks).
"""

import binascii
import bz2
import gzip
import hashlib
import json
import lzma
import os
import struct
import subprocess
import zlib

BLOCK = 512
ID = "0193a5b0-0000-7000-8000-000000000001"
OTHER = "0193a5b0-0000-7000-8000-000000000002"
TIME = "2026-01-01T00:00:00Z"
LIBRARY = "libraries/%s/library.json" % ID
DOCUMENTS = "libraries/%s/documents-000001.jsonl" % ID
MANIFEST = {"kind": "quire snapshot", "format": 1, "created_at": TIME, "lsn": 9, "base": None}
DEFINITION = {"id": ID, "name": "n", "embedding_model": "hash-384", "created_at": TIME}
DOCUMENT = {"id": "d", "metadata": {"created_at": TIME}, "chunks": [{"id": "c", "text": "t"}]}
ARCHIVE = "some.tar.zst"
ONE = (1, 1, 1)  # libraries, documents, chunks of the good one


class Case:
    def __init__(self, name, make, expect="refused", holds=ONE, takes_long=False):
        self.name, self.make, self.expect, self.holds, self.takes_long = name, make, expect, holds, takes_long


# --- tar, by hand ---


def octal(value, width):
    return b"%0*o\0" % (width - 1, value)


def header(name, size=0, kind=b"0", link=b"", magic=b"ustar\x0000", prefix=b"", mode=0o644, raw_size=None, checksum=None, tail=b"", device=b""):
    name = name if isinstance(name, bytes) else name.encode()
    fields = name[:100].ljust(100, b"\0") + octal(mode, 8) + octal(0, 8) + octal(0, 8) + (raw_size or octal(size, 12)) + octal(0, 12)
    rest = kind + link[:100].ljust(100, b"\0") + magic + b"\0" * 64 + (device or b"\0" * 16) + prefix[:155].ljust(155, b"\0")
    block = (fields + b" " * 8 + rest + tail).ljust(BLOCK, b"\0")
    total = sum(block) if checksum is None else checksum
    return block[:148] + b"%06o\0 " % total + block[156:]


def padded(content):
    return content + b"\0" * (-len(content) % BLOCK)


def entry(name, content=b"", **more):
    return header(name, len(content), **more) + padded(content)


def pax(records, kind=b"x"):
    """An extended header; records are (key, value), or bytes as they are."""
    out = b""
    for record in records:
        if isinstance(record, bytes):
            out += record
            continue
        body = b" %s=%s\n" % tuple(part if isinstance(part, bytes) else str(part).encode() for part in record)
        length = len(body)
        while len(str(length)) + len(body) != length:
            length = len(str(length)) + len(body)
        out += str(length).encode() + body
    return entry("./PaxHeaders/x", out, kind=kind)


END = b"\0" * (2 * BLOCK)


def text(*objects):
    return "".join(json.dumps(o) + "\n" for o in objects).encode()


def sums_of(files):
    return b"".join(b"%s  %s\n" % (hashlib.sha256(content).hexdigest().encode(), name.encode()) for name, content in files)


def files_of(manifest=None, definition=None, documents=None):
    """The three files of a good archive, one exchanged."""
    return [("manifest.json", text(MANIFEST) if manifest is None else manifest), (LIBRARY, text(DEFINITION) if definition is None else definition),
            (DOCUMENTS, text(DOCUMENT) if documents is None else documents)]


def archive_of(files, before=b"", behind=b"", sums=None):
    return before + b"".join(entry(*f) for f in files) + entry("SHA256SUMS", sums_of(files) if sums is None else sums) + behind + END


GOOD = files_of()


# --- files ---


def packed(data, *options):
    return subprocess.run(["zstd", "-q", "-c", *options], input=data, stdout=subprocess.PIPE, check=True).stdout


def packed_stream(pieces, path):
    """For what is too much to hold."""
    with open(path, "wb") as f:
        process = subprocess.Popen(["zstd", "-q", "-c", "-1"], stdin=subprocess.PIPE, stdout=f)
        for piece in pieces:
            process.stdin.write(piece)
        process.stdin.close()
        if process.wait() != 0:
            raise RuntimeError("zstd failed")


def write(directory, name, data):
    path = os.path.join(directory, name)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as f:
        f.write(data)
    return path


def write_decoys(directory):
    """What nobody may touch."""
    write(directory, "secret", b"not for an archive")
    write(directory, "decoy/file", b"as it was")
    os.symlink("decoy", os.path.join(directory, "link"))


def as_archive(data):
    """`data`: bytes, or what makes them when they are wanted."""
    return lambda directory: [write(directory, ARCHIVE, packed(data() if callable(data) else data))]


def as_file(data, name=ARCHIVE):
    return lambda directory: [write(directory, name, data)]


def with_entry(bytes_of_it):
    """The good archive and one entry more, in front of the others and behind them."""
    return as_archive(archive_of(GOOD, before=bytes_of_it)), as_archive(archive_of(GOOD, behind=bytes_of_it))


# --- names and kinds of entries ---


def name_cases():
    names = {"upwards": b"../evil", "far upwards": b"../" * 30 + b"tmp/evil", "absolute": b"/tmp/quire-evil", "within, then upwards": b"libraries/../../evil",
             "of a device": b"/dev/shm/evil", "with dots": b"libraries/./" + ID.encode() + b"/library.json", "two slashes": b"libraries//" + ID.encode(),
             "empty": b"", "a dot": b".", "control characters": b"\x1b]0;evil\x07\x1b[2J", "a newline": b"a\nb", "no UTF-8": b"\xff\xfe\xfd",
             "capital letters": b"MANIFEST.JSON", "a backslash": b"..\\evil", "another id": b"libraries/x/library.json",
             "documents 0": b"libraries/%s/documents-000000.jsonl" % ID.encode(), "a space": b" manifest.json", "unknown": b"README", "a tail": b"manifest.json/"}
    for name, value in names.items():
        for where, make in zip(("first", "last"), with_entry(entry(value, b"evil"))):
            # An empty name and "." are what tar makes of the directory itself.
            yield Case("a name, %s, %s" % (name, where), make, "either" if value in (b"", b".", b"manifest.json/") else "refused")
    yield Case("a name, upwards by its prefix", with_entry(entry("evil", b"x", prefix=b"../.."))[0])
    yield Case("a name, 100 bytes without an end", with_entry(entry("n" * 100, b"x"))[0])


def kind_cases():
    kinds = {"hard link": (b"1", b"/etc/passwd"), "symbolic link": (b"2", b"../decoy"), "character device": (b"3", b""), "block device": (b"4", b""),
             "fifo": (b"6", b""), "contiguous": (b"7", b""), "GNU sparse": (b"S", b""), "unknown kind": (b"Z", b""), "multi-volume": (b"M", b""),
             "GNU directory listing": (b"D", b""), "old tar's zero": (b"\0", b"")}
    for name, (kind, link) in kinds.items():
        harmless = name in ("contiguous", "old tar's zero")
        files = list(GOOD)
        data = entry("manifest.json", files[0][1], kind=kind, link=link) + b"".join(entry(*f) for f in files[1:]) + entry("SHA256SUMS", sums_of(files)) + END
        yield Case("the manifest as %s" % name, as_archive(data),
                   "either" if harmless or name in ("GNU sparse", "GNU directory listing", "unknown kind") else "refused")
        yield Case("the library as %s" % name, as_archive(entry(*files[0]) + entry(LIBRARY, files[1][1], kind=kind, link=link) + entry(*files[2]) +
                                                          entry("SHA256SUMS",
                                                                sums_of(files)) + END), "either" if harmless or name != "symbolic link" else "refused")
    through = header("libraries", kind=b"2", link=b"decoy") + b"".join(entry(*f) for f in GOOD)
    yield Case("a link in the place of a directory, and files through it", as_archive(through + entry("SHA256SUMS", sums_of(GOOD)) + END))
    yield Case("a hard link to an entry", as_archive(archive_of(GOOD, behind=header(DOCUMENTS.replace("001", "002"), kind=b"1", link=DOCUMENTS.encode()))))
    yield Case("directories", with_entry(header("libraries/", kind=b"5", mode=0o777) + header("libraries/%s/" % ID, kind=b"5"))[0], "good")
    yield Case("names with ./", as_archive(b"".join(entry("./" + n, c) for n, c in GOOD) + entry("./SHA256SUMS", sums_of(GOOD)) + END), "good")
    yield Case("a directory that is not ours", with_entry(header("evil/", kind=b"5"))[0])


# --- sizes ---


def base256(value, negative=False):
    return (b"\xff" if negative else b"\x80") + value.to_bytes(11, "big", signed=negative)


def size_cases():
    huge = {"8 GiB": octal(8 << 30, 12), "8 EiB": base256(8 << 60), "beyond 64 bits": b"\x80" + b"\xff" * 11, "negative": base256(-1, True),
            "no number": b"zzzzzzzzzzzz",
            "spaces": b" " * 12}
    for name, size in huge.items():
        for target in ("manifest.json", DOCUMENTS):
            data = header(target, raw_size=size) + padded(b"x" * 1000)
            yield Case("%s says %s" % (os.path.basename(target), name), as_archive(data + archive_of(GOOD)))
    yield Case("shorter than it says", as_archive(archive_of(GOOD)[:-3 * BLOCK]))
    for size in ("1000000000000000", "-5", "99999999999999999999999", "x"):
        data = pax([("size", size)]) + entry(*GOOD[0]) + b"".join(entry(*f) for f in GOOD[1:]) + entry("SHA256SUMS", sums_of(GOOD)) + END
        yield Case("pax says size=%s" % size, as_archive(data), "either" if size in ("-5", "x") else "refused")
    terabyte = str(1 << 40)
    sparse = [("GNU.sparse.major", 1), ("GNU.sparse.minor", 0), ("GNU.sparse.name", "manifest.json"), ("GNU.sparse.realsize", terabyte)]
    yield Case("pax 1.0 sparse, a terabyte", as_archive(pax(sparse) + entry("GNUSparseFile.0/manifest.json", padded(b"1\n0\n0\n")) + archive_of(GOOD)))
    old = [("GNU.sparse.size", terabyte), ("GNU.sparse.numblocks", 1), ("GNU.sparse.map", "0,5")]
    yield Case("pax 0.1 sparse, a terabyte", as_archive(pax(old) + entry("manifest.json", b"12345") + archive_of(GOOD)))
    map_of = b"".join(octal(v, 12) for v in (0, 5)) * 4
    sparse_header = header("manifest.json", 5, kind=b"S", magic=b"ustar  \0", prefix=b"\0" * 41 + map_of[:96] + b"\0" + octal((1 << 33) - 1, 12))
    yield Case("GNU sparse, eight gigabytes", as_archive(sparse_header + padded(b"12345") + archive_of(GOOD)))
    endless = [("GNU.sparse.major", 1), ("GNU.sparse.minor", 0), ("GNU.sparse.name", "manifest.json"), ("GNU.sparse.realsize", terabyte)]
    yield Case("a sparse map with a billion parts", as_archive(pax(endless) + entry("x", padded(b"1000000000\n" + b"0\n1\n" * 100)) + archive_of(GOOD)))


# --- pax, GNU and ustar oddities ---


def oddity_cases():
    rest = b"".join(entry(*f) for f in GOOD[1:]) + entry("SHA256SUMS", sums_of(GOOD)) + END
    first = entry(*GOOD[0])
    for key, value in (("path", "../../evil"), ("path", "/tmp/quire-evil"), ("path", "\x1b[2J"), ("linkpath", "/etc/passwd"), ("hdrcharset", "BINARY"),
                       ("SCHILY.xattr.security.evil", "x" * 100000), ("mtime", "-99999999999999999999.5"), ("uname", "\x1b]0;x\x07"), ("SCHILY.dev", "99"),
                       ("LIBARCHIVE.symlinktype", "dir"), ("comment", "y" * 1000000), ("SCHILY.acl.access", "user::rwx"), ("path", ""), ("gid", "-1")):
        expect = "refused" if key == "path" and value else "either"
        yield Case("pax %s=%s" % (key, value[:12].encode().hex() if "\x1b" in value else value[:20]), as_archive(pax([(key, value)]) + first + rest), expect)
    for name, record in {"no length": b"path=x\n", "a length beyond": b"999999 path=x\n", "no newline": b"11 path=abcd", "length 0": b"0 a=b\n",
                         "only zeros": b"\0" * 600,
                         "a huge length": b"99999999999999999999999 a=b\n"}.items():
        yield Case("a pax record with %s" % name, as_archive(pax([record]) + first + rest), "either")
    yield Case("a pax header behind a pax header", as_archive(pax([("comment", "a")]) * 50 + first + rest), "either")
    yield Case("100,000 pax headers in a row", as_archive(lambda: pax([("comment", "a")]) * 100000 + first + rest), "either")
    yield Case("a global pax header that renames all", as_archive(pax([("path", "../evil")], kind=b"g") + first + rest), "either")
    yield Case("a pax header of 64 MB", as_archive(lambda: pax([("comment", b"z" * (64 << 20))]) + first + rest), "either")
    yield Case("a pax header that says a terabyte", as_archive(header("x", kind=b"x", raw_size=base256(1 << 40)) + padded(b"12 comment=\n") + first + rest))
    yield Case("a GNU long name of 64 MB", as_archive(lambda: entry("././@LongLink", b"n" * (64 << 20), kind=b"L", magic=b"ustar  \0") + first + rest))
    yield Case("a GNU long name upwards", as_archive(entry("././@LongLink", b"../" * 100 + b"evil\0", kind=b"L", magic=b"ustar  \0") + first + rest))
    yield Case("a GNU long link", as_archive(entry("././@LongLink", b"/etc/passwd\0", kind=b"K", magic=b"ustar  \0") + first + rest), "either")
    yield Case("a long name for nothing", as_archive(archive_of(GOOD)[:-2 * BLOCK] + entry("././@LongLink", b"evil\0", kind=b"L",
                                                                                           magic=b"ustar  \0") + END), "either")
    yield Case("a volume's label", as_archive(header("label", kind=b"V", magic=b"ustar  \0") + first + rest), "either")
    yield Case("a wrong checksum of a header", as_archive(header("manifest.json", 3, checksum=1) + padded(b"abc") + first + rest))
    yield Case("old tar without a magic", as_archive(b"".join(entry(n, c, magic=b"\0" * 8) for n, c in GOOD) + entry("SHA256SUMS", sums_of(GOOD),
                                                                                                                     magic=b"\0" * 8) + END), "either")
    yield Case("bytes behind the end", as_archive(archive_of(GOOD) + os.urandom(5000)), "either")
    yield Case("another archive behind the end", as_archive(archive_of(GOOD) + entry("../evil", b"x") + END), "either")
    yield Case("no end", as_archive(archive_of(GOOD)[:-2 * BLOCK]), "either")
    yield Case("no end, cut in a block", as_archive(archive_of(GOOD)[:-2 * BLOCK - 100]), "either")
    yield Case("names in a ustar prefix", as_archive(first + b"".join(entry(os.path.basename(n), c, prefix=os.path.dirname(n).encode()) for n,
                                                                      c in GOOD[1:]) +
                                                     entry("SHA256SUMS", sums_of(GOOD)) + END), "good")


# --- sums, doubles, what is missing ---


def sum_cases():
    wrong = sums_of([(n, c + b" ") for n, c in GOOD])
    yield Case("wrong sums", as_archive(archive_of(GOOD, sums=wrong)))
    yield Case("no sums", as_archive(b"".join(entry(*f) for f in GOOD) + END))
    yield Case("empty sums", as_archive(archive_of(GOOD, sums=b"")))
    yield Case("a sum is missing", as_archive(archive_of(GOOD, sums=sums_of(GOOD[:2]))))
    yield Case("a sum of what is not there", as_archive(archive_of(GOOD, sums=sums_of(GOOD + [("libraries/x", b"")]))))
    yield Case("a sum twice", as_archive(archive_of(GOOD, sums=sums_of(GOOD + GOOD[:1]))))
    yield Case("sums twice", as_archive(archive_of(GOOD, behind=entry("SHA256SUMS", sums_of(GOOD)))))
    yield Case("sums in capitals", as_archive(archive_of(GOOD, sums=sums_of(GOOD).upper())))
    yield Case("sums with control characters", as_archive(archive_of(GOOD, sums=b"\x1b[2J" * 20 + b"\n")))
    yield Case("sums of 100,000 lines", as_archive(archive_of(GOOD, sums=sums_of(GOOD) * 30000)))
    for index, name in enumerate(("manifest", "library", "documents")):
        yield Case("%s twice" % name, as_archive(archive_of(GOOD, behind=entry(*GOOD[index]))))
        yield Case("%s twice, with sums of both" % name, as_archive(archive_of(GOOD + [GOOD[index]])))
        yield Case("%s twice, one with ./" % name, as_archive(archive_of(GOOD, behind=entry("./" + GOOD[index][0], b"{}"))))
    yield Case("no manifest", as_archive(archive_of(GOOD[1:])))
    yield Case("no library", as_archive(archive_of([GOOD[0], GOOD[2]])))
    yield Case("no documents", as_archive(archive_of(GOOD[:2])), "good", (1, 0, 0))
    yield Case("only a manifest", as_archive(archive_of(GOOD[:1])), "either")
    yield Case("documents first, sums first", as_archive(entry("SHA256SUMS", sums_of(GOOD)) + b"".join(entry(*f) for f in reversed(GOOD)) + END), "good")


# --- JSON ---


def changed(whole, **members):
    return text(dict(whole, **members))


def json_cases():
    deep = b'{"id":' * 200000 + b"1" + b"}" * 200000 + b"\n"
    for name, content in {
            "deep": deep, "deep arrays": b"[" * 1000000 + b"\n", "none": b"\0\n", "cut short": text(DOCUMENT)[:-5], "no object": b"[]\n", "null": b"null\n",
            "no UTF-8": b'{"id":"\xff\xfe"}\n', "a lone surrogate": b'{"id":"\\ud800"}\n', "a NUL in a key": b'{"i\\u0000d":1}\n', "a key twice": b'{"id":"a","id":"b"}\n',
            "NaN": b'{"id":NaN}\n', "a number of a million digits": b'{"id":' + b"9" * 1000000 + b"}\n", "a string without an end": b'{"id":"' + b"x" * 1000000,
            "many tokens": b"[" + b"{}," * 2000000 + b"{}]\n", "comments": b"/* */{}\n"}.items():
        for index, what in enumerate(("manifest", "library", "document")):
            files = list(GOOD)
            files[index] = (files[index][0], content)
            yield Case("%s: %s" % (what, name), as_archive(archive_of(files)), takes_long=name == "many tokens")
    for name, members in {"a newer format": {"format": 99}, "format 0": {"format": 0}, "another kind": {"kind": "x\x1b[2J"},
                          "a base that is not there": {"base": "snapshot_20250101_000000.tar.zst"},
                          "a base upwards": {"base": "../../etc/passwd"}, "a base that is itself": {"base": ARCHIVE}, "a negative LSN": {"lsn": -1}, "a word as LSN": {"lsn": "9"},
                          "no time": {"created_at": "yesterday"}}.items():
        yield Case("a manifest with " + name, as_archive(archive_of(files_of(manifest=changed(MANIFEST, **members)))))
    for name, members in {"another id": {"id": OTHER}, "no id": {"id": None}, "a number as name": {"name": 7},
                          "a dimension of millions": {"dimension": 4000000},
                          "an unknown index": {"index_type": "x"}, "M of a billion": {"index_config": {"M": 1000000000}}, "a negative ef": {"index_config": {"ef_search": -5}},
                          "a name of 100 kB": {"name": "n" * 100000}}.items():
        yield Case("a library with " + name, as_archive(archive_of(files_of(definition=changed(DEFINITION, **members)))))
    yield Case("a library's name with control characters", as_archive(archive_of(files_of(definition=changed(DEFINITION, name="\x1b[2J\x07")))), "either")
    yield Case("a model that nobody has", as_archive(archive_of(files_of(definition=changed(DEFINITION, embedding_model="nobody's")))), "either")
    twice = dict(DOCUMENT, chunks=[{"id": "c", "text": "t"}, {"id": "c", "text": "u"}])
    for name, documents in {
            "the same twice": text(DOCUMENT, DOCUMENT), "a chunk's id twice": text(twice),
            "a chunk of another": text(DOCUMENT, dict(DOCUMENT, id="e")), "no id": text({"chunks": []}),
            "an id of 1 kB": text(dict(DOCUMENT, id="i" * 1000)), "a chunk without text": text(dict(DOCUMENT, chunks=[{"id": "c"}])),
            "chunks that are none": text(dict(DOCUMENT, chunks=[1, 2])),
            "metadata that is none": text(dict(DOCUMENT, metadata=[])), "no base64": text(dict(DOCUMENT, chunks=[{"id": "c", "text_base64": "%%%"}])),
            "an embedding that is none": text(dict(DOCUMENT, chunks=[{"id": "c", "text": "t", "embedding": "AAAA"}]))}.items():
        yield Case("documents with " + name, as_archive(archive_of(files_of(documents=documents))))
    none = changed(DEFINITION, embedding_model="none", dimension=2)
    for name, embedding, expect in (("no vector", None, "refused"), ("another dimension", [1.0, 2.0, 3.0], "refused"), ("its vector", [1.0, 2.0], "good")):
        chunk = {"id": "c", "text": "t"} if embedding is None else {"id": "c", "text": "t", "embedding": embedding}
        yield Case("a library that brings vectors, with " + name,
                   as_archive(archive_of(files_of(definition=none, documents=text(dict(DOCUMENT, chunks=[chunk]))))), expect)
    many = text(*({"id": "d%d" % i, "metadata": {"created_at": TIME}, "chunks": [{"id": "c%d" % i, "text": "t"}]} for i in range(1000)))
    yield Case("lines without an end, and empty ones", as_archive(archive_of(files_of(documents=b"\n\n" + many.replace(b"\n", b"\n\n")[:-2]))), "good",
               (1, 1000, 1000))


# --- bombs, and how many ---


def bomb(*pieces):
    def make(directory):
        path = os.path.join(directory, ARCHIVE)
        packed_stream((part for make_part in pieces for part in make_part()), path)
        return [path]
    return make


def zeros(size, step=1 << 22):
    piece = b"\0" * step
    return lambda: (piece for _ in range(size // step))


def bytes_once(data):
    return lambda: [data]


def many_files(count):
    def make():
        name = "libraries/%s/documents-%%06d.jsonl" % ID
        for start in range(1, count + 1, 1000):
            yield b"".join(header(name % n) for n in range(start, min(start + 1000, count + 1)))
    return make


def bomb_cases():
    size = 500 << 20
    yield Case("half a gigabyte of zeros as a manifest", bomb(bytes_once(header("manifest.json", size)), zeros(size), bytes_once(archive_of(GOOD))),
               takes_long=True)
    yield Case("one document of half a gigabyte", bomb(bytes_once(entry(*GOOD[0]) + entry(*GOOD[1]) + header(DOCUMENTS, size)), zeros(size),
                                                       bytes_once(END)), takes_long=True)
    name = "libraries/%s/documents-%%06d.jsonl" % ID
    parts = [part for n in range(1, 9) for part in (bytes_once(header(name % n, size)), zeros(size))]
    yield Case("four gigabytes of zeros in eight files", bomb(bytes_once(entry(*GOOD[0]) + entry(*GOOD[1])), *parts, bytes_once(END)), takes_long=True)
    yield Case("half a gigabyte of zeros by gzip", lambda d: [write(d, "some.tar.gz", gzip.compress(header("manifest.json", size) + b"\0" * size, 1))],
               takes_long=True)
    yield Case("bytes that are packed once more", as_archive(packed(archive_of(GOOD))))
    yield Case("packed by gzip within zstd", as_archive(gzip.compress(archive_of(GOOD))))
    frame = struct.pack("<I", 0xFD2FB528) + b"\xc0" + b"\xff" + struct.pack("<Q", 1 << 62)
    yield Case("a frame that wants a window of exabytes", as_file(frame + b"\0" * 100))
    yield Case("a frame that says exabytes", as_file(struct.pack("<I", 0xFD2FB528) + b"\xe0" + struct.pack("<Q", 1 << 62) + b"\x01\0\0"))
    yield Case("a window of 2 GiB", as_archive_with("--long=31", "--ultra", "-1"), "either", takes_long=True)
    yield Case("a million directories", bomb(lambda: (header("libraries/", kind=b"5") * 10000 for _ in range(101)), bytes_once(archive_of(GOOD))),
               takes_long=True)
    yield Case("999,990 empty files that no sum covers", bomb(bytes_once(entry(*GOOD[0])), many_files(999990),
                                                              bytes_once(entry("SHA256SUMS", sums_of(GOOD)) + END)), takes_long=True)
    yield Case("20,000 empty files that no sum covers", bomb(bytes_once(entry(*GOOD[0])), many_files(20000),
                                                             bytes_once(entry("SHA256SUMS", sums_of(GOOD)) + END)))

    def much():
        documents = ({"id": "d%d" % i, "metadata": {"created_at": TIME}, "chunks": [{"id": "c%d" % i, "text": "a" * 100000}]} for i in range(1000))
        return archive_of(files_of(documents=text(*documents)))

    yield Case("100 MB of documents where 64 are allowed", as_archive(much))


def packing_cases():
    """By all that can be read, and by what cannot."""
    data = archive_of(GOOD)
    for name, make, expect in (("nothing", lambda d: d, "good"), ("gzip", gzip.compress, "good"), ("xz", lzma.compress, "good"),
                               ("bzip2", bz2.compress, "refused"),
                               ("lzma", lambda d: lzma.compress(d, format=lzma.FORMAT_ALONE), "refused"), ("deflate", zlib.compress, "refused"),
                               ("uuencode", lambda d: b"begin 644 x\n" + binascii.b2a_uu(d[:45]) + b"`\nend\n", "refused")):
        yield Case("packed by %s" % name, as_file(make(data), "some.tar"), expect)
        if expect == "good" and name != "nothing":
            yield Case("packed by %s, cut short" % name, as_file(make(data)[:-10], "some.tar"))
            yield Case("packed by %s, one byte wrong" % name, as_file(make(data)[:40] + b"\xff" + make(data)[41:], "some.tar"))
            yield Case("packed by %s, twice in a row" % name, as_file(make(data) + make(archive_of([("../evil", b"x")])), "some.tar"), "either")
    # xz says how large a dictionary it wants: four gigabytes, which a reader does not have (but under a sanitizer).
    stream = bytearray(lzma.compress(data, filters=[{"id": lzma.FILTER_LZMA2, "dict_size": 1 << 20}]))
    stream[16] = 40  # of the block's header, whose checksum does not know it then, or does
    stream[12 + 8 : 12 + 12] = struct.pack("<I", binascii.crc32(bytes(stream[12 : 12 + 8])))
    yield Case("an xz dictionary of four gigabytes", as_file(bytes(stream), "some.tar.xz"), "either")


def chain_cases():
    """What rests on others. A sum of a base cannot be made to lead back to itself, so a ring is a base that is not the one that was meant."""
    names = ["snapshot_202601%02d_000000.tar.zst" % n for n in range(1, 29)]

    def link(base, sum_of_base, lsn=9, depth=1, base_lsn=5, libraries=None):
        rests = {"archive": base, "sha256sums": sum_of_base, "lsn": base_lsn}
        there = [{"id": ID, "name": "n", "num_documents": 1, "num_chunks": 1, "archive": base}] if libraries is None else libraries
        manifest = dict(MANIFEST, format=2, lsn=lsn, base=rests, depth=depth, libraries=there)
        return archive_of(files_of(manifest=text(manifest))[:1])

    def at(name, data, *others):
        def make(directory):
            for other, content in others:
                write(directory, "from/" + other, packed(content))
            return [write(directory, "from/" + name, packed(data))]
        return make

    whole = archive_of(files_of(manifest=text(dict(MANIFEST, lsn=5))))
    meant = hashlib.sha256(sums_of(files_of(manifest=text(dict(MANIFEST, lsn=5))))).hexdigest()
    first = (names[0], whole)
    zero = "0" * 64
    yield Case("a link and its base", at(names[1], link(names[0], meant), first), "good")
    yield Case("a base that is another one", at(names[1], link(names[0], zero), first))
    yield Case("a base that is not there", at(names[1], link(names[0], meant)))
    yield Case("a base that is newer", at(names[1], link(names[0], meant, lsn=3), first))
    yield Case("a base that is at another LSN", at(names[1], link(names[0], meant, base_lsn=4), first))
    yield Case("a link that rests on itself", at(names[1], link(names[1], zero)))
    yield Case("a ring of two", at(names[1], link(names[0], zero), (names[0], link(names[1], zero))))
    for what, base in (("upwards", "../secret"), ("absolute", "/etc/passwd"), ("with control characters", "\x1b[2J"), ("empty", ""),
                       ("a temporary file", ".snapshot_x.tmp")):
        yield Case("a base %s" % what, at(names[1], link(base, meant), first))
    here = {"id": ID, "name": "n", "num_documents": 1, "num_chunks": 1}
    yield Case("a library that is in no archive", at(names[1], link(names[0], meant, libraries=[dict(here, archive=names[5])]), first))
    yield Case("a library that its base does not have", at(names[1], link(names[0], meant, libraries=[dict(here, id=OTHER, archive=names[0])]), first))
    yield Case("a library twice", at(names[1], link(names[0], meant, libraries=[dict(here, archive=names[0])] * 2), first))
    yield Case("libraries that are none", at(names[1], link(names[0], meant, libraries=[7, None, "x"]), first))
    yield Case("a depth of a billion", at(names[1], link(names[0], meant, depth=1000000000), first), "either")
    yield Case("a base that is a fifo", lambda d: (os.makedirs(os.path.join(d, "from")), os.mkfifo(os.path.join(d, "from", names[0])),
                                                   [write(d, "from/" + names[1], packed(link(names[0], meant)))])[-1])
    yield Case("a base that is a link to a secret", lambda d: (os.makedirs(os.path.join(d, "from")),
                                                               os.symlink("../secret", os.path.join(d, "from", names[0])),
                                                               [write(d, "from/" + names[1], packed(link(names[0], meant)))])[-1])


def as_archive_with(*options):
    return lambda directory: [write(directory, ARCHIVE, packed(archive_of(GOOD), *options))]


# --- files and directories ---


def segment_header(instance, bytes_, first=1, needs=0):
    """A header of a log that is right in all (docs/formats.md)."""
    page = bytearray(4096)
    page[0:8] = b"QUIREWAL"
    struct.pack_into("<IIQQ", page, 8, 1, 4096, 1, 0)
    page[32:48] = instance
    struct.pack_into("<QqQQI", page, 48, first, 0, bytes_, needs, 1)
    struct.pack_into("<I", page, 4092, crc32c(bytes(page[:4092])))
    return bytes(page)


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def sparse_file(directory, name, size, begin=b""):
    path = write(directory, name, begin)
    os.truncate(path, size)
    return path


def good_in(directory, name="snapshot_20260101_000000.tar.zst"):
    return os.path.dirname(write(directory, "from/" + name, packed(archive_of(GOOD))))


def beside(name, make):
    """A directory with the good archive, and beside it what `make` puts at a path."""
    def both(directory):
        source = good_in(directory)
        make(os.path.join(source, name))
        return [source]
    return both


def with_log(make):
    def both(directory):
        log = os.path.join(directory, "log")
        os.mkdir(log)
        make(log)
        return [good_in(directory), "--log", log]
    return both


SEGMENT = "wal_20260101_00000000000000000001.log"


def place_cases():
    for name, data in {"empty": b"", "zeros": b"\0" * 10240, "noise": os.urandom(10000), "text": b"hello\n" * 1000,
                       "a cut frame": packed(archive_of(GOOD))[:-20]}.items():
        yield Case("a file of %s" % name, as_file(data))
    for name in ("zip", "cpio", "7z", "iso", "rar", "ar", "mtree", "xar", "warc", "shell"):
        begin = {"zip": b"PK\x03\x04", "cpio": b"070701" + b"0" * 104, "7z": b"7z\xbc\xaf\x27\x1c", "iso": b"\0" * 32769 + b"CD001",
                 "rar": b"Rar!\x1a\x07\x00",
                 "ar": b"!<arch>\n", "mtree": b"#mtree\n./evil type=file\n", "xar": b"xar!", "warc": b"WARC/1.0\r\n", "shell": b"#!/bin/sh\ntouch /tmp/quire-evil\n"}[name]
        yield Case("a file that is %s" % name, as_file(begin + b"\0" * 2000, "some." + name))
    yield Case("a sparse file of a terabyte", lambda d: [sparse_file(d, ARCHIVE, 1 << 40)])
    yield Case("an archive, then a terabyte of nothing", lambda d: [sparse_file(d, ARCHIVE, 1 << 40, packed(archive_of(GOOD)))], "either")
    yield Case("a link to an archive", lambda d: (write(d, "real", packed(archive_of(GOOD))), os.symlink("real", os.path.join(d, ARCHIVE)),
                                                  [os.path.join(d, ARCHIVE)])[-1], "good")
    yield Case("a fifo", lambda d: (os.mkfifo(os.path.join(d, ARCHIVE)), [os.path.join(d, ARCHIVE)])[-1])
    yield Case("a device", lambda d: ["/dev/zero"])
    name = "snapshot_20270101_000000.tar.zst"
    for what, make in {"a fifo": os.mkfifo, "a directory": os.mkdir, "a link to a secret": lambda p: os.symlink("../secret", p),
                       "a link to nothing": lambda p: os.symlink("nothing", p),
                       "a link to a device": lambda p: os.symlink("/dev/zero", p), "noise": lambda p: write("/", p, os.urandom(1000))}.items():
        yield Case("%s as a newer snapshot" % what, beside(name, make), "good")
    for what, make in {"a fifo": os.mkfifo, "a link to a secret": lambda p: os.symlink("../secret", p), "a directory": os.mkdir}.items():
        yield Case("%s as a segment" % what, with_log(lambda d, make=make: make(os.path.join(d, SEGMENT))))
    instance = bytes(range(16))
    for what, data in {"noise": os.urandom(70000), "only a header": segment_header(instance, 65536), "an empty file": b"",
                       "half a header": segment_header(instance, 65536)[:100],
                       "a wrong checksum": segment_header(instance, 65536)[:-1] + b"\0",
                       "noise behind its header": segment_header(instance, 65536) + os.urandom(61440)}.items():
        yield Case("a segment with %s" % what, with_log(lambda d, data=data: write(d, SEGMENT, data)), "good")
    yield Case("a segment of a terabyte of nothing", with_log(lambda d: sparse_file(d, SEGMENT, 1 << 40, segment_header(instance, 1 << 40))), "good")
    yield Case("a segment that begins far ahead", with_log(lambda d: write(d, SEGMENT, segment_header(instance, 65536, first=1000, needs=999))))
    yield Case("a segment behind what a repair gave up", with_log(lambda d: write(d, SEGMENT, segment_header(instance, 65536, first=1000, needs=9))), "good")


def cases():
    for group in (name_cases, kind_cases, size_cases, oddity_cases, sum_cases, json_cases, packing_cases, chain_cases, bomb_cases, place_cases):
        yield from group()
