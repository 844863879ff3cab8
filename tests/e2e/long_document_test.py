"""One document of 32,768 tokens trains with the small model in less than 2 GiB."""

import json
import os
import pathlib
import resource
import unittest

import harness
from harness import run

TOKENS = 32768
LIMIT = 2 << 30


class LongDocument(harness.Workspace):

    def test_memory_of_one_long_document(self):
        text = self.root / "long.txt"
        words = " ".join(harness.WORDS)
        text.write_text((words * (TOKENS // len(words) + 1))[:TOKENS - 2], encoding="utf-8")
        tokens = self.root / "long.tokens"
        run("tokenize", text, "--output", tokens, "--tokenizer", "bytes")
        small = pathlib.Path(__file__).parents[2] / "configs" / "kjv.json"
        model = json.loads(small.read_text(encoding="utf-8"))["model"]
        model["max_position_embeddings"] = TOKENS
        job = self.job("long", model=model,
                       data={"train": [str(tokens)], "validation_fraction": 0.0},
                       training={"steps": 1, "tokens_per_step": TOKENS,
                                 "micro_batch_tokens": TOKENS, "validation_every": 0},
                       schedule={"warmup_steps": 0}, checkpoint={"every": 0})
        run("train", job, threads=os.cpu_count())
        row = self.metrics("long")[0]
        self.assertEqual(row["tokens"], TOKENS)
        self.assertLess(row["peak_bytes"]["total"], LIMIT)
        # Of all processes this test has started: the whole process, libraries included.
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
        self.assertLess(peak, LIMIT)


if __name__ == "__main__":
    unittest.main()
