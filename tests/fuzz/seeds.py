#!/usr/bin/env python3
"""seeds.py OUT: first inputs for the fuzz targets whose formats chance does not find: ops, frames of the channel, archives of snapshots.

The formats are those of src/store/op.h, src/proc/channel.h and docs/formats.md, written down a second time on purpose: an encoder of Quire's own would share
its mistakes. tests/fuzz/fuzz calls it; what it writes is not kept.
"""
import hashlib
import io
import json
import pathlib
import struct
import sys
import tarfile

LIBRARY = bytes(range(16))


def varint(n):
    out = b""
    while n >= 0x80:
        out += bytes([n & 0x7F | 0x80])
        n >>= 7
    return out + bytes([n])


def text(s):
    b = s if isinstance(s, bytes) else s.encode()
    return varint(len(b)) + b


def header(kind, version=1, library=LIBRARY):
    return bytes([kind, version]) + library


def item(s):
    return b"\x02" + s.encode()


def definition(model="hash-384", dimension=0):
    return (struct.pack("<Q", 1) + bytes([1]) + varint(16) + varint(100) + varint(64) + bytes([2, 8]) + varint(16) + bytes([0, 0]) + varint(dimension) +
            text("name") + text("about") + text(model) + text("english") + text('{"k":1}'))


def document(chunks, vectors=0, mode=1):
    out = header(4, 2) + bytes([mode | 0x7C]) + struct.pack("<Q", 2) + text(item("d")) + text("Title")
    out += text("author") + text("note") + text("http://x/") + text('["t"]') + text('{"n":1}') + varint(len(chunks))
    for name, body in chunks:
        out += text(item(name)) + text(body) + text('{"p":2}') + varint(4)
    out += varint(vectors)
    return out + struct.pack("<%df" % (vectors * len(chunks)), *([0.5] * (vectors * len(chunks))))


OPS = {
    "create": header(1) + definition(),
    "update": header(2) + definition("none", 3),
    "drop": header(3),
    "put": document([("a", "one two"), ("b", "three")]),
    "put-vectors": document([("a", "one")], 4, 2),
    "delete": header(5) + text(item("d")),
    "chunks": header(6) + varint(2) + text(item("a")) + text(item("b")),
    "close": header(7, library=bytes(16)),
    "vectors": header(11) + struct.pack("<Q", 99) + varint(2) + varint(1) + text(item("a")) + struct.pack("<Q", 5) + struct.pack("<2f", 0.6, 0.8),
}
OPS["group"] = header(8, library=bytes(16)) + text(b"") + varint(2) + text(OPS["put"]) + text(OPS["delete"])


def submission(ops, keyed=False):
    out = bytes([keyed]) + (bytes(range(48)) + struct.pack("<Q", 3) if keyed else b"") + varint(len(ops))
    for op, vectors in ops:
        out += text(op) + struct.pack("<Q", 0) + varint(vectors) + varint(3 if vectors else 0) + struct.pack("<%df" % (3 * vectors), *([1.0] * (3 * vectors)))
    return out


ID = "00010203-0405-7607-8809-0a0b0c0d0e0f"
MANIFEST = {"format_version": 1, "timestamp": "2026-01-01T00:00:00.000000Z", "lsn": 7, "libraries": [{"id": ID}]}
LIBRARY_JSON = {"id": ID, "name": "n", "description": "d", "created_at": "2026-01-01T00:00:00.000000Z", "language": "english", "embedding_model": "hash-384",
                "model_fingerprint": "0123456789abcdef", "dimension": 2, "index_type": "hnsw", "index_config": {"M": 16, "ef_construction": 100, "ef_search": 64},
                "quantization": {"strategy": "hybrid", "bits": 8, "rerank_top_k": 16}, "on_embedding_failure": "pending", "snapshot_vectors": True,
                "num_documents": 1, "num_chunks": 1, "custom": {"k": 1}}
LINE = {"id": "d", "metadata": {"title": "t", "author": "a", "created_at": "2026-01-01T00:00:00.000000Z", "document_type": "note", "source_url": "u", "tags": ["x"],
                                "custom": {"n": 1}},
        "chunks": [{"id": "c", "text": "one", "metadata": {"page_number": 3, "custom": {"z": 2}}, "embedding": "AACAPwAAAAA=", "embedding_of": "0123456789abcdef"}]}


def archive(kind):
    entries = {"manifest.json": json.dumps(MANIFEST).encode(), "libraries/%s/library.json" % ID: json.dumps(LIBRARY_JSON).encode(),
               "libraries/%s/documents-000001.jsonl" % ID: json.dumps(LINE).encode() + b"\n"}
    entries["SHA256SUMS"] = "".join("%s  %s\n" % (hashlib.sha256(v).hexdigest(), k) for k, v in entries.items()).encode()
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:" + kind, format=tarfile.PAX_FORMAT) as tar:
        for name, content in entries.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return out.getvalue()


def main():
    out = pathlib.Path(sys.argv[1])
    seeds = {"op": OPS, "channel": {}, "snapshot": {}}
    for name, op in OPS.items():
        seeds["channel"]["one-" + name] = submission([(op, 0)])
    seeds["channel"]["vectors"] = submission([(OPS["put"], 2), (OPS["delete"], 0)], True)
    for kind in ("", "gz", "xz"):
        seeds["snapshot"]["tar" + kind] = b"\0" + archive(kind)
    seeds["snapshot"]["manifest"] = b"\1" + json.dumps(MANIFEST).encode()
    seeds["snapshot"]["documents"] = b"\2" + json.dumps(LIBRARY_JSON).encode() + b"\n" + json.dumps(LINE).encode()
    for target, inputs in seeds.items():
        folder = out / target
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in inputs.items():
            (folder / name).write_bytes(content)


if __name__ == "__main__":
    main()
