"""Writing and reading a model file (docs/formats.md, "Models")."""
import hashlib
import struct

import numpy as np

MAGIC = b"QUIREMDL"
VERSION = 1
HEADER = "<8sIIIIQ28sI"
ALIGNMENT = 64
WEIGHT_MAX = 255
LEVELS = 127


def padded(data):
    return data + bytes(-len(data) % ALIGNMENT)


def quantize(table):
    """float rows -> weights (uint8, 1 to 255) and levels (int8): a row is about weight * levels, times one scale for all."""
    greatest = np.abs(table).max(axis=1)
    scale = greatest.max() / (WEIGHT_MAX * LEVELS)
    weights = np.clip(np.ceil(greatest / scale / LEVELS - 1e-6), 1, WEIGHT_MAX)
    levels = np.clip(np.rint(table / (scale * weights)[:, None]), -LEVELS, LEVELS)
    return weights.astype(np.uint8), levels.astype(np.int8)


def write(path, name, tokens, weights, levels, dense_permille):
    texts = [t.encode() for t in tokens]
    vocabulary = b"".join(texts)
    ends = np.cumsum([len(t) for t in texts]).astype("<u4").tobytes()
    rows, dimension = levels.shape
    assert rows == len(tokens) == len(weights)
    parts = padded(ends + vocabulary), padded(weights.tobytes()), padded(levels.tobytes())
    length = struct.calcsize(HEADER) + sum(map(len, parts)) + hashlib.sha256().digest_size
    header = struct.pack(HEADER, MAGIC, VERSION, dimension, rows, len(vocabulary), length, name.encode(), dense_permille)
    body = header + b"".join(parts)
    with open(path, "wb") as f:
        f.write(body + hashlib.sha256(body).digest())


class Model:
    """A file as it was read: its vocabulary, and its table as integers."""

    def __init__(self, path):
        with open(path, "rb") as f:
            data = f.read()
        magic, version, self.dimension, count, vocabulary, length, name, self.dense_permille = struct.unpack_from(HEADER, data)
        if magic != MAGIC or version != VERSION or length != len(data) or hashlib.sha256(data[:-32]).digest() != data[-32:]:
            raise SystemExit(f"{path} is no model file of version {VERSION}, or damaged")
        self.name = name.rstrip(b"\0").decode()
        at = struct.calcsize(HEADER)
        ends = np.frombuffer(data, "<u4", count, at)
        texts = data[at + 4 * count:at + 4 * count + vocabulary]
        self.tokens = [texts[begin:end].decode() for begin, end in zip([0, *ends[:-1]], ends)]
        at += -(-(4 * count + vocabulary) // ALIGNMENT) * ALIGNMENT
        weights = np.frombuffer(data, np.uint8, count, at)
        at += -(-count // ALIGNMENT) * ALIGNMENT
        levels = np.frombuffer(data, np.int8, count * self.dimension, at).reshape(count, self.dimension)
        self.table = weights.astype(np.int32)[:, None] * levels
