"""Chats from JSON lines to a training step's loss, and blends of several token files."""

import json
import math
import pathlib
import struct
import unittest

import harness
from harness import run

FIXTURES = pathlib.Path(__file__).parents[1] / "data" / "tokenizers"
CHAT = [("system", "be brief"), ("user", "what was in the beginning?"), ("assistant", "a word and light"),
        ("user", "and then?"), ("assistant", "water under a stone sky")]


def counted(path):
    """Tokens in the ranges of the loss of a file of version 2."""
    contents = path.read_bytes()
    version, = struct.unpack_from("<I", contents, 8)
    documents, = struct.unpack_from("<Q", contents, 32)
    index, = struct.unpack_from("<Q", contents, 72)
    assert version == 2, version
    at = index + 8 * (2 * documents + 1)
    ranges, = struct.unpack_from("<Q", contents, at)
    bounds = struct.unpack_from(f"<{2 * ranges}Q", contents, at + 8)
    return sum(end - begin for begin, end in zip(bounds[::2], bounds[1::2]))


class Chats(harness.Workspace):

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.tokenizer = cls.root / "qwen"
        cls.tokenizer.mkdir()
        (cls.tokenizer / "tokenizer.json").write_bytes((FIXTURES / "qwen.json").read_bytes())
        (cls.tokenizer / "tokenizer_config.json").write_text('{"eos_token": "<|im_end|>"}', encoding="utf-8")

    def tokenize(self, name, lines, *options, expect=0):
        source, tokens = self.root / f"{name}.jsonl", self.root / f"{name}.tokens"
        source.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
        result = run("tokenize", source, "-o", tokens, "--tokenizer", self.tokenizer, *options, expect=expect)
        return tokens if expect == 0 else result.stderr

    @staticmethod
    def chat(weights):
        return {"messages": [{"role": role, "content": content, "weight": weight}
                             for (role, content), weight in zip(CHAT, weights)]}

    def chat_job(self, name, tokens, **changes):
        sections = {"model": {"vocab_size": 1205, "max_position_embeddings": 256},
                    "data": {"train": [str(path) for path in tokens], "tokenizer": str(self.tokenizer),
                             "validation_fraction": 0.0, "shuffle": False},
                    "training": {"steps": 1, "tokens_per_step": 128, "micro_batch_tokens": 128,
                                 "precision": "fp64", "validation_every": 0},
                    "checkpoint": {"every": 0}, "schedule": {"warmup_steps": 0}}
        for section, keys in changes.items():
            sections[section].update(keys)
        return self.job(name, **sections)

    def test_the_loss_is_of_the_tokens_that_count_alone(self):
        # One chat three times, of which one part, the rest or both count: the mean over both is the
        # mean of the two, weighted by how many tokens each has.
        losses, counts = {}, {}
        for name, weights in {"one": (0, 0, 1, 0, 0), "rest": (1, 1, 0, 1, 1), "both": (1, 1, 1, 1, 1)}.items():
            tokens = self.tokenize(name, [self.chat(weights)])
            run("train", self.chat_job(f"loss-{name}", [tokens]))
            losses[name], counts[name] = self.losses(f"loss-{name}")[1], counted(tokens)
        self.assertEqual(counts["one"] + counts["rest"], counts["both"])
        self.assertGreater(counts["one"], 4)
        self.assertGreater(abs(losses["one"] - losses["rest"]), 1e-4)
        expected = (losses["one"] * counts["one"] + losses["rest"] * counts["rest"]) / counts["both"]
        self.assertAlmostEqual(losses["both"], expected, delta=1e-6 * expected)
        # By default it is the assistant's turns.
        default = self.tokenize("default", [{"messages": [{"role": role, "content": content}
                                                          for role, content in CHAT]}])
        self.assertEqual(default.read_bytes(), self.tokenize("same", [self.chat((0, 0, 1, 0, 1))]).read_bytes())

    def test_a_step_without_a_target_is_skipped_and_the_run_goes_on(self):
        chats = [self.chat((0, 0, 1, 0, 1)), self.chat((0, 0, 0, 0, 0))]
        chats[1]["messages"][1]["content"] += " " + "light " * 40  # so that each fills a row of its own
        tokens = self.tokenize("gaps", chats)
        shown = run("tokenize", self.root / "gaps.jsonl", "-o", self.root / "again.tokens",
                    "--tokenizer", self.tokenizer).stdout
        self.assertIn("in 1 chats none", shown)
        report = json.loads(run("inspect", tokens, "--json").stdout)
        self.assertEqual(report["tokens_in_loss"], counted(tokens))
        job = self.chat_job("gaps", [tokens], training={"steps": 5, "max_skipped_steps": 1})
        result = run("train", job, ranks=2)
        self.assertIn("step 2 is skipped: none of its tokens counts in the loss", result.stderr)
        rows = self.metrics("gaps")
        self.assertEqual([math.isnan(float(row["loss"])) for row in rows], [False, True, False, True, False])
        self.assertEqual(rows[-1]["skipped"], 2)
        run("verify", job, ranks=2)
        nothing = self.tokenize("nothing", [chats[1]])
        self.assertIn("none counts in the loss",
                      run("train", self.chat_job("nothing", [nothing]), expect=2).stderr)

    def test_masked_corpora_tell_no_bits_per_byte(self):
        lines = [self.chat((0, 0, 1, 0, 1))] * 8 + [{"prompt": "in the", "completion": " beginning"}] * 8
        tokens = self.tokenize("validated", lines)
        run("train", self.chat_job("validated", [tokens], data={"validation_fraction": 0.3},
                                   training={"steps": 2, "validation_every": 1}))
        rows = [row for row in self.metrics("validated") if "validation_loss" in row]
        self.assertEqual(len(rows), 2)
        for row in rows:
            self.assertTrue(math.isfinite(row["validation_loss"]))
            self.assertIsNone(row.get("bits_per_byte"))

    def test_what_cannot_be_written_is_refused_by_its_line(self):
        good = self.chat((0, 0, 1, 0, 1))
        for line, options, names in (
                ({"messages": [{"role": "tool", "content": "4"}]}, [], ["bad.jsonl:2", "\"tool\""]),
                ({"messages": "x"}, [], ["bad.jsonl:2", "list of turns"]),
                (dict(good, text="t"), [], ["bad.jsonl:2", "--text-field"]),
                (good, ["--chat-template", "gemma"], ["<bos>"]),
                (good, ["--chat-template", "alpaca"], ["alpaca"]),
                (good, ["--format", "megatron"], ["--format tokens"])):
            with self.subTest(names=names):
                message = self.tokenize("bad", [{"text": "first"}, line], *options, expect=2)
                for name in names:
                    self.assertIn(name, message)

    def test_a_blend_draws_in_proportion_and_resumes(self):
        small = self.root / "small.jsonl"
        small.write_text("".join(json.dumps({"text": f"seven names {i}"}) + "\n" for i in range(30)),
                         encoding="utf-8")
        other = self.root / "small.tokens"
        run("tokenize", small, "-o", other, "--tokenizer", "bytes")
        data = {"train": [str(self.tokens), str(other)], "weights": [3, 1]}
        result = run("train", self.job("blend", data=data))
        self.assertIn(f"{other}: 25.00% of the rows", result.stdout)
        self.assertIn(f"{self.tokens}: 75.00% of the rows", result.stdout)
        parts = self.job("blend-parts", data=data)
        for until, ranks in ((7, 2), (13, 1), (20, 2)):
            run("train", parts, "--until-step", until, ranks=ranks)
        whole, again = self.losses("blend"), self.losses("blend-parts")
        self.assertEqual(sorted(whole), sorted(again))
        for step, loss in whole.items():
            self.assertAlmostEqual(loss, again[step], delta=1e-3)
        # The same steps in parts on as many ranks are the same run, bit for bit.
        exact = self.job("blend-exact", data=data)
        for until in (5, 20):
            run("train", exact, "--until-step", until)
        self.assertEqual(self.losses("blend-exact"), whole)
        # Other weights are other samples.
        changed = run("train", exact, "--set", "data.weights=[2, 1]", "--set", "training.steps=25", expect=2)
        self.assertIn("other samples", changed.stderr)
        self.assertIn("too small", run("train", self.job("tiny", data=dict(data, weights=[1, 1e-9])),
                                       expect=2).stderr)


if __name__ == "__main__":
    unittest.main()
