"""A Python that has libraries to compare with (LONGSPAN_PYTHON; default: the one that runs this), and the
documents that it and the program are asked about. No network is needed."""

import json
import os
import subprocess
import sys

import harness
from harness import run

PYTHON = os.environ.get("LONGSPAN_PYTHON", sys.executable)
SKIPPED = 77  # what ctest takes for it


def python(code, *arguments):
    environment = dict(os.environ, HF_HUB_OFFLINE="1", TRANSFORMERS_OFFLINE="1", OMP_NUM_THREADS="1")
    return subprocess.run([PYTHON, "-I", "-c", code, *map(str, arguments)], env=environment, text=True,
                          capture_output=True, check=False)


class Documents(harness.Workspace):
    """Short documents: `short` as a token file, `documents` as their ids, a list a line."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        texts = ["a word", "light upon water", "bread and salt, and seven names", "x"]
        lines = cls.root / "short.jsonl"
        lines.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
        cls.short = cls.root / "short.tokens"
        run("tokenize", lines, "--output", cls.short, "--tokenizer", "bytes")
        cls.documents = cls.root / "documents.jsonl"
        cls.documents.write_text("".join(
            json.dumps([1] + [byte + 3 for byte in text.encode()] + [1]) + "\n" for text in texts))

    def asked(self, code, *arguments):
        """What the code prints as JSON."""
        result = python(code, *arguments)
        self.assertEqual(result.returncode, 0, result.stderr)
        return json.loads(result.stdout)
