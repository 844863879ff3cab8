"""What the end-to-end tests share: the program as a user starts it, and small corpora and jobs."""

import json
import os
import pathlib
import random
import shutil
import subprocess
import tempfile
import unittest

LONGSPAN = os.environ["LONGSPAN"]
MPIRUN = [
    "mpirun", "--allow-run-as-root", "--oversubscribe", "--bind-to", "none", "-np",
]
# Figures of time: the only ones that may differ between two runs of one job.
TIMES = ("step_seconds", "tokens_per_second", "model_flops_utilization", "planner_wait_seconds")

WORDS = ("in the beginning was a word and light upon water over stone under sky "
         "they went out into long fields with bread salt and seven names").split()


def environment(threads=1):
    return dict(os.environ, OMP_NUM_THREADS=str(threads))


def command(arguments, ranks=0, program=LONGSPAN):
    prefix = MPIRUN + [str(ranks)] if ranks else []
    return prefix + [program] + [str(argument) for argument in arguments]


def run(*arguments, ranks=0, threads=1, expect=0, program=LONGSPAN):
    """Runs the program to its end; fails with its output when the exit code is another."""
    result = subprocess.run(command(arguments, ranks, program), env=environment(threads), text=True,
                            errors="replace", stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False)
    if expect is not None and result.returncode != expect:
        raise AssertionError(f"exit code {result.returncode}, expected {expect}\n"
                             f"{result.args}\n{result.stdout}\n{result.stderr}")
    return result


def start(*arguments, ranks=0, threads=1):
    return subprocess.Popen(command(arguments, ranks), env=environment(threads), text=True,
                            errors="replace", stdout=subprocess.PIPE, stderr=subprocess.PIPE)


class Workspace(unittest.TestCase):
    """A test with a directory of its own, holding a corpus and its tokens."""

    @classmethod
    def setUpClass(cls):
        cls.root = pathlib.Path(tempfile.mkdtemp(prefix="longspan-e2e-"))
        cls.corpus = cls.root / "corpus.jsonl"
        draw = random.Random(3)
        with open(cls.corpus, "w", encoding="utf-8") as out:
            for _ in range(120):
                words = [draw.choice(WORDS) for _ in range(draw.randint(3, 60))]
                out.write(json.dumps({"text": " ".join(words)}) + "\n")
        cls.tokens = cls.root / "corpus.tokens"
        run("tokenize", cls.corpus, "--output", cls.tokens, "--tokenizer", "bytes")

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.root)

    @classmethod
    def job(cls, name, **changes):
        """Writes a small job; `changes` are section={key: value} over it."""
        job = {
            "run": {"name": name, "output_dir": str(cls.root / name), "seed": 5},
            "model": {"vocab_size": 259, "hidden_size": 32, "intermediate_size": 64,
                      "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
                      "max_position_embeddings": 128},
            "data": {"train": [str(cls.tokens)], "tokenizer": "bytes",
                     "validation_fraction": 0.1},
            "optimizer": {"learning_rate": 3e-3},
            "schedule": {"warmup_steps": 3},
            "training": {"steps": 20, "tokens_per_step": 512, "micro_batch_tokens": 128,
                         "precision": "fp32", "validation_every": 5},
            "checkpoint": {"every": 5, "keep_last": 2},
            "logging": {"every": 5, "peak_tflops": 1.0},
        }
        return cls.write_job(name, job, changes)

    @classmethod
    def write_job(cls, name, job, changes):
        for section, keys in changes.items():
            job.setdefault(section, {}).update(keys)
        path = cls.root / f"{name}.json"
        path.write_text(json.dumps(job, indent=2), encoding="utf-8")
        return path

    def metrics(self, name, drop=TIMES):
        lines = (self.root / name / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
        rows = [json.loads(line) for line in lines]
        return [{key: value for key, value in row.items() if key not in drop} for row in rows]

    def losses(self, name):
        return {row["step"]: row["loss"] for row in self.metrics(name) if "loss" in row}

    def checkpoint_files(self, name):
        """Relative path -> bytes of everything under a run's checkpoints."""
        top = self.root / name / "checkpoints"
        return {str(path.relative_to(top)): path.read_bytes()
                for path in sorted(top.rglob("*")) if path.is_file()}

    def assert_planned(self, name, plan, steps=None):
        """The steps of run `name` (so many, if said) took and sent the bytes that the plan says."""
        rows = [row for row in self.metrics(name) if "peak_bytes" in row]
        self.assertTrue(len(rows) == steps if steps else rows)
        for row in rows:
            self.assertEqual(plan["peak_bytes"], row["peak_bytes"])
            self.assertEqual(plan["comm_bytes"], row["comm_bytes"])
            self.assertEqual(plan["tokens_per_step"], row["tokens"])

    def assert_runs_as_planned(self, make, cases, steps):
        """Each of `cases`, (ranks, changes of the job that `make` writes): takes what its plan says,
        in every step; returns the plans."""
        plans = []
        for number, (ranks, changes) in enumerate(cases):
            name = f"planned-{number}"
            training = {"steps": steps, "validation_every": 0, **changes.get("training", {})}
            job = make(name, **{**changes, "run": {"threads": 1}, "data": {"packing": "streamed"},
                                "training": training})
            with self.subTest(name):
                plan = json.loads(run("plan", job, "--world-size", ranks, "--json").stdout)
                run("train", job, ranks=ranks)
                self.assert_planned(name, plan, steps=steps)
                plans.append(plan)
        return plans

    def assert_resumes(self, make):
        """Of jobs that `make` writes, with 10 steps and a checkpoint at 5: runs whole-1, of 1 rank, and
        whole-2, of 2 that share all states, learn and are those that stop between; and the first one's
        checkpoint goes on at another layout. Returns that job, of 3 ranks."""
        for ranks, more in ((1, {}), (2, {"parallel": {"zero_stage": 3},
                                          "training": {"precision": "bf16"}})):
            whole, parts = f"whole-{ranks}", f"parts-{ranks}"
            run("train", make(whole, **more), ranks=ranks)
            job = make(parts, **more)
            run("train", job, "--until-step", 5, ranks=ranks)
            run("train", job, ranks=ranks)
            self.assertEqual(self.metrics(whole), self.metrics(parts))
            losses = self.losses(whole)
            self.assertLess(losses[10], losses[1])
        other = make("other", parallel={"sequence": 3, "zero_stage": 3},
                     training={"micro_batch_tokens": 128},
                     checkpoint={"resume": str(self.root / "whole-1" /
                                               "checkpoints/step-00000005")})
        run("train", other, ranks=3)
        for step, loss in self.losses("other").items():
            self.assertAlmostEqual(loss, self.losses("whole-1")[step], delta=1e-4)
        return other

    def assert_same_run(self, one, other):
        self.assertEqual(self.metrics(one), self.metrics(other))
        first, second = self.checkpoint_files(one), self.checkpoint_files(other)
        self.assertEqual(sorted(first), sorted(second))
        for path, contents in first.items():
            self.assertTrue(contents == second[path], f"{path} differs between {one} and {other}")
