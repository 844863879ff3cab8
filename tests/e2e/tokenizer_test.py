"""Tokenizers from the command line: ids of the Bible, training, decoding, bad files."""

import hashlib
import json
import pathlib
import shutil
import struct
import subprocess
import unittest

import harness
from harness import run

FIXTURES = pathlib.Path(__file__).parents[1] / "data" / "tokenizers"


def ids_of(path):
    """All ids of a token file."""
    contents = path.read_bytes()
    width, = struct.unpack_from("<I", contents, 12)
    tokens, = struct.unpack_from("<Q", contents, 24)
    return struct.unpack_from(f"<{tokens}{'H' if width == 2 else 'i'}", contents, 128)


class Tokenizers(harness.Workspace):

    @unittest.skipUnless(shutil.which("bible"), "bible-kjv is not installed")
    def test_ids_of_the_bible_are_the_references(self):
        text = self.root / "bible.txt"
        text.write_text(subprocess.run(["bible", "-f", "gen1:1-rev22:21"], stdout=subprocess.PIPE,
                                       text=True, check=True).stdout, encoding="utf-8")
        expected = json.loads((FIXTURES / "expected.json").read_text(encoding="utf-8"))
        for family, figures in expected.items():
            with self.subTest(family):
                folder = self.root / family
                folder.mkdir()
                shutil.copy(FIXTURES / f"{family}.json", folder / "tokenizer.json")
                file = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
                config = {"eos_token": file["added_tokens"][0]["content"]}
                (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
                tokens = self.root / f"{family}.tokens"
                run("tokenize", text, "-o", tokens, "--tokenizer", folder, "--no-bos", "--no-eos",
                    threads=2)
                ids = ids_of(tokens)
                self.assertEqual(len(ids), figures["bible"]["tokens"])
                self.assertEqual(hashlib.sha256(struct.pack(f"<{len(ids)}i", *ids)).hexdigest(),
                                 figures["bible"]["sha256"])

    def test_training_and_decoding(self):
        corpus, model, tokens = self.root / "mixed.txt", self.root / "own.json", self.root / "own.tokens"
        corpus.write_bytes(self.corpus.read_bytes() + b"\xff\x00\xc3 caf\xc3\xa9\r\n")
        run("tokenize", corpus, "-o", tokens, "--train-vocab", 300, "--model-out", model)
        run("tokenize", tokens, "--decode", "--tokenizer", model, "-o", self.root / "back.txt")
        self.assertEqual((self.root / "back.txt").read_bytes(), corpus.read_bytes())
        # JSON lines come back as lines.
        run("tokenize", self.corpus, "-o", tokens, "--tokenizer", model)
        run("tokenize", tokens, "--decode", "--tokenizer", model, "-o", self.root / "back.jsonl")
        lines = (self.root / "back.jsonl").read_text(encoding="utf-8").splitlines()
        self.assertEqual([json.loads(line) for line in lines],
                         [json.loads(line) for line in self.corpus.read_text().splitlines()])
        # A checkpoint carries the tokenizer, and generation uses it.
        job = self.job("trained", model={"vocab_size": 300}, data={"train": [str(tokens)], "tokenizer": str(model)},
                       training={"steps": 2, "validation_every": 0}, checkpoint={"every": 2},
                       schedule={"warmup_steps": 0})
        run("train", job)
        saved = self.root / "trained/checkpoints/step-00000002"
        self.assertEqual((saved / "tokenizer.json").read_bytes(), model.read_bytes())
        config = json.loads((saved / "tokenizer_config.json").read_text(encoding="utf-8"))
        self.assertEqual(config["eos_token"], "<|endoftext|>")
        run("generate", saved, "--prompt", "in the", "--max-tokens", 4)

    def test_bad_tokenizers_and_options(self):
        def refused(*arguments, names):
            message = run("tokenize", *arguments, "-o", self.root / "no.tokens", expect=2).stderr
            for name in names:
                self.assertIn(name, message)

        broken = self.root / "broken.json"
        broken.write_text('{"model": {"type": "Unigram", "vocab": []}}', encoding="utf-8")
        refused(self.corpus, "--tokenizer", broken, names=["broken.json", "model.type", "Unigram"])
        broken.write_text("[" * 1000000, encoding="utf-8")
        refused(self.corpus, "--tokenizer", broken, names=["broken.json:1:65", "brackets"])
        refused(self.corpus, "--tokenizer", FIXTURES / "qwen.json", names=["qwen.json", "eos_token"])
        refused(self.corpus, "--train-vocab", 300, "--model-out", self.root / "a.bin", names=[".json", ".model"])
        refused(self.corpus, "--train-vocab", 1000000, "--model-out", self.root / "a.json",
                names=["1000000 ids"])
        refused(self.tokens, self.tokens, "--decode", names=["one token file"])
        refused(self.tokens, "--decode", "--tokenizer", FIXTURES / "gpt2.json", names=["another tokenizer"])
        self.assertFalse((self.root / "no.tokens").exists())


if __name__ == "__main__":
    unittest.main()
