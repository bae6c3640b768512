"""toy_model.py FILE - writes a small model file by tools/distill/model_file.py, reads it back, and prints the vector of "cat a cats b" as the server has to make it.

Without numpy it ends with 77. No teacher and no download is needed: the table is made up.
"""
import math
import sys
from pathlib import Path

try:
    import numpy as np
except ImportError:
    sys.exit(77)
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tools" / "distill"))
import model_file  # noqa: E402

TOKENS = ["[UNK]", "a", "b", "cat", "##s", "\u6771"]
TEXT = ["cat", "a", "cat", "##s", "b"]
DIMENSION = 32


def main():
    path = sys.argv[1]
    table = np.random.default_rng(5).standard_normal((len(TOKENS), DIMENSION)) * np.linspace(0.1, 1, len(TOKENS))[:, None]
    weights, levels = model_file.quantize(table)
    model_file.write(path, "static-en", TOKENS, weights, levels, 500)
    model = model_file.Model(path)
    assert (model.name, model.tokens, model.dimension, model.dense_permille) == ("static-en", TOKENS, DIMENSION, 500)
    assert (model.table == weights.astype(int)[:, None] * levels).all()
    scale = np.abs(table).max() / np.abs(model.table).max()
    assert np.abs(model.table * scale - table).max() < scale * weights.max()  # half a level, at the row with the greatest ones
    total = np.zeros(DIMENSION)
    for token in set(TEXT):
        times = round(16 * (1 + math.log(TEXT.count(token))))
        total += times * model.table[TOKENS.index(token)]
    print(*(total / np.linalg.norm(total)))


if __name__ == "__main__":
    main()
