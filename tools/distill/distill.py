"""Makes data/models/static-en.quire: a table of token vectors whose weighted sums stand near what the teacher says of the same texts.

    distill.py OUT --texts FILE --cache DIR [--limit N] [--dimension 256] [--epochs 6] [--no-training] ...

1. Each token of the vocabulary alone through the teacher, the mean over its sequence taken (as model2vec does), the common mean removed.
2. Projected onto the principal directions of the teacher's vectors of the training texts.
3. Weighted by a / (a + p), p its share of the training texts' tokens. (--no-training ends here.)
4. The table is trained: the vector of a text, the sum of (1 + ln n) * row over its different tokens, scaled to unit length, is to have the
   teacher's direction; and its similarities to a thousand others, as a distribution, are to be the teacher's (Kullback-Leibler, as in
   Hinton et al. 2015). Adam; only rows that a batch touches move, so a token that no text has keeps its place from step 3.
5. Quantised: model_file.py.

What each step is worth is in data/README.md. The teacher's vectors of the texts are the dear part; they are kept in the cache.
"""
import argparse
import os

import numpy as np
import scipy.sparse as sparse

import model_file
from teacher import Teacher, plain_tokenizer, vocabulary

PART = 100000  # texts in one file of the cache
TOKENIZED_AT_ONCE = 5000
BATCH = 2048
GROUP = 1024  # texts whose similarities to each other are compared
WARM_UP = 20


def unit(x):
    return x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-9)


class Counter:
    """Texts -> how much each token counts in each, as a sparse matrix."""

    def __init__(self):
        self.tokenizer = plain_tokenizer()
        self.tokenizer.encode_special_tokens = True
        self.tokens, self.numbers = vocabulary(self.tokenizer)
        self.index = np.full(max(self.numbers) + 1, -1)
        self.index[self.numbers] = np.arange(len(self.tokens))

    def occurrences(self, texts):
        ends, tokens = [0], []
        for at in range(0, len(texts), TOKENIZED_AT_ONCE):
            for made in self.tokenizer.encode_batch_fast(texts[at:at + TOKENIZED_AT_ONCE], add_special_tokens=False):
                known = self.index[made.ids]
                tokens.append(known[known >= 0])
                ends.append(ends[-1] + len(tokens[-1]))
        tokens = np.concatenate(tokens)
        matrix = sparse.csr_matrix((np.ones(len(tokens), np.float32), tokens, ends), shape=(len(texts), len(self.tokens)))
        matrix.sum_duplicates()
        return matrix


def damped(occurrences):
    occurrences = occurrences.copy()
    occurrences.data = 1 + np.log(occurrences.data)
    return occurrences


def teacher_vectors(texts, cache, threads):
    parts, teacher = [], None
    for at in range(0, len(texts), PART):
        path = os.path.join(cache, f"teach-{at // PART:02d}.npy")
        if not os.path.exists(path):
            teacher = teacher or Teacher("bf16", threads)
            np.save(path, teacher.embed(texts[at:at + PART], progress=True).astype(np.float16))
        parts.append(np.load(path)[:len(texts) - at])
    return np.concatenate(parts).astype(np.float32)


def token_vectors(numbers, cache, threads):
    path = os.path.join(cache, "tokens.npy")
    if not os.path.exists(path):
        begin, end = 101, 102  # [CLS], [SEP]
        np.save(path, Teacher("bf16", threads).means([[begin, i, end] for i in range(max(numbers) + 1)]))
    return np.load(path)[numbers]


def principal_directions(vectors, dimension):
    _, directions = np.linalg.eigh(vectors.T @ vectors)
    return directions[:, ::-1][:, :dimension].astype(np.float32)


def softmax(x):
    np.fill_diagonal(x, -np.inf)
    x = np.exp(x - x.max(axis=1, keepdims=True))
    return x / x.sum(axis=1, keepdims=True)


class Trainer:
    def __init__(self, table, options, steps):
        self.table = table
        self.options = options
        self.steps = steps
        self.step = 0
        self.first = np.zeros_like(table)
        self.second = np.zeros_like(table)

    def slope(self, made, wanted):
        """Of the loss, by the unit vectors that were made."""
        slope = -wanted
        heat = self.options.temperature
        for at in range(0, len(made), GROUP):
            ours, theirs = made[at:at + GROUP], wanted[at:at + GROUP]
            off = (softmax(ours @ ours.T / heat) - softmax(theirs @ theirs.T / heat)) * self.options.relations
            slope[at:at + GROUP] += (off + off.T) @ ours
        return slope

    def learn(self, counts, wanted):
        rows, columns = np.unique(counts.indices, return_inverse=True)
        counts = sparse.csr_matrix((counts.data, columns, counts.indptr), shape=(counts.shape[0], len(rows)))
        sums = counts @ self.table[rows]
        lengths = np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), 1e-6)
        made = sums / lengths
        slope = self.slope(made, wanted)
        slope = (slope - (slope * made).sum(axis=1, keepdims=True) * made) / lengths
        self.adam(rows, counts.T @ slope)
        return float((1 - (made * wanted).sum(axis=1)).mean())

    def adam(self, rows, slope):
        self.step += 1
        rate = self.options.rate * min(1, self.step / WARM_UP) * max(0.02, 1 - self.step / self.steps)
        self.first[rows] = 0.9 * self.first[rows] + 0.1 * slope
        self.second[rows] = 0.99 * self.second[rows] + 0.01 * slope * slope
        first = self.first[rows] / (1 - 0.9 ** self.step)
        second = self.second[rows] / (1 - 0.99 ** self.step)
        self.table[rows] -= rate * first / (np.sqrt(second) + 1e-8)


def train(table, occurrences, wanted, options):
    counts = damped(occurrences)
    texts = np.flatnonzero(np.diff(counts.indptr) > 0)
    trainer = Trainer(table.copy(), options, options.epochs * (len(texts) // BATCH))
    random = np.random.default_rng(options.seed)
    for epoch in range(options.epochs):
        order = random.permutation(texts)
        batches = [order[at:at + BATCH] for at in range(0, len(order) - BATCH + 1, BATCH)]
        losses = [trainer.learn(counts[batch], wanted[batch]) for batch in batches]
        print(f"epoch {epoch + 1}: 1 - cosine {np.mean(losses):.4f}", flush=True)
    return trainer.table


def distil(options):
    with open(options.texts, encoding="utf-8") as f:
        texts = [line.rstrip("\n") for line in f][:options.limit]
    counter = Counter()
    occurrences = counter.occurrences(texts)
    vectors = teacher_vectors(texts, options.cache, options.threads)
    alone = token_vectors(counter.numbers, options.cache, options.threads)
    directions = principal_directions(vectors, options.dimension)
    seen = np.asarray(occurrences.sum(axis=0)).ravel() + 1
    weights = options.smoothing / (options.smoothing + seen / seen.sum())
    table = ((alone - alone.mean(axis=0)) @ directions * weights[:, None]).astype(np.float32)
    table /= np.linalg.norm(table, axis=1).mean()
    if not options.no_training:
        table = train(table, occurrences, unit(vectors @ directions), options)
    return counter.tokens, table


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out")
    parser.add_argument("--texts", required=True, help="from corpus.py")
    parser.add_argument("--cache", required=True)
    parser.add_argument("--limit", type=int)
    parser.add_argument("--name", default="static-en")
    parser.add_argument("--dense-permille", type=int, default=250, help="the share of the vectors in hybrid searches, from bench/retrieval")
    parser.add_argument("--dimension", type=int, default=256)
    parser.add_argument("--no-training", action="store_true")
    parser.add_argument("--smoothing", type=float, default=1e-4, help="a of a / (a + p)")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--rate", type=float, default=0.01)
    parser.add_argument("--relations", type=float, default=2.0, help="weight of the similarities beside the directions")
    parser.add_argument("--temperature", type=float, default=0.05)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    tokens, table = distil(options)
    model_file.write(options.out, options.name, tokens, *model_file.quantize(table), options.dense_permille)


if __name__ == "__main__":
    main()
