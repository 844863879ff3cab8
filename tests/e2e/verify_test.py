"""`longspan verify`: the user's own job against one plain rank, at every layout."""

import json
import unittest

import harness
from harness import run


class Verify(harness.Workspace):

    def verify(self, job, *more, ranks=0):
        return json.loads(run("verify", job, "--json", *more, ranks=ranks).stdout)

    def test_every_layout_agrees(self):
        for ranks, sequence, stage, level in (
                (0, 1, 0, "none"), (2, 2, 1, "block"), (3, 3, 2, "none"), (4, 4, 3, "block"),
                (4, "2x2", 2, "block_keep_attention"), (4, "1x4", 3, "0: block, 1: none"),
                (4, 2, 3, "block"), (4, 1, 1, "none"), (4, "1x2", 0, "block")):
            with self.subTest(f"{ranks} ranks, {sequence}, stage {stage}, {level}"):
                job = self.job("verified", parallel={"sequence": sequence, "zero_stage": stage},
                               memory={"activation_checkpointing": level})
                found = self.verify(job, ranks=ranks)
                self.assertTrue(found["agrees"])
                errors = found["comparisons"][0]["relative_error"]
                self.assertLess(errors["loss"], 1e-5)
                self.assertLess(errors["grad_norm"], 1e-5)
                self.assertEqual(len(errors["gradients"]), 21)
                self.assertLess(max(errors["gradients"].values()), 1e-5)

    def test_every_plan_of_groups_agrees(self):
        for ranks, planner, stage, level in (
                (0, "flexible", 0, "none"), (2, "per_micro_batch", 1, "block"),
                (3, "flexible", 2, "none"), (4, "flexible", 3, "block_keep_attention")):
            with self.subTest(f"{ranks} ranks, {planner}, stage {stage}, {level}"):
                job = self.job("planned", parallel={"planner": planner, "zero_stage": stage},
                               memory={"activation_checkpointing": level})
                for more in ((), ("--full",)):
                    found = self.verify(job, *more, ranks=ranks)
                    self.assertTrue(found["agrees"])
                    self.assertIn(planner, found["layout"])
                    errors = found["comparisons"][0]["relative_error"]
                    self.assertEqual(len(errors["gradients"]), 21)
                    self.assertLess(max(errors["gradients"].values()), 1e-5)

    def test_the_job_as_it_is(self):
        job = self.job("whole", training={"precision": "fp64"})
        small = self.verify(job, ranks=2)
        self.assertTrue(small["shrunk"])
        whole = self.verify(job, "--full", ranks=2)
        self.assertEqual(whole["shrunk"], [])
        self.assertLess(max(whole["comparisons"][0]["relative_error"]["gradients"].values()), 1e-10)
        # It is a step of training: the loss of the first one.
        run("train", job, "--until-step", 1, ranks=2)
        self.assertAlmostEqual(whole["comparisons"][0]["loss"], self.losses("whole")[1], places=9)

    def test_bf16_is_compared_in_fp32_too(self):
        found = self.verify(self.job("half", training={"precision": "bf16"}), ranks=2)
        self.assertEqual([one["precision"] for one in found["comparisons"]], ["fp32", "bf16"])

    def test_text_and_refusals(self):
        job = self.job("told")
        text = run("verify", job).stdout
        for part in ("block 0", "block 1", "model.embed_tokens.weight", "all agree",
                     "1 data group(s) of 1 Ulysses x 1 ring rank(s), ZeRO stage 1"):
            self.assertIn(part, text)
        self.assertIn("parallel.sequence", run("verify", job, "--set", "parallel.sequence=3",
                                               expect=2).stderr)
        missing = self.job("missing", data={"train": [str(self.root / "none.tokens")]})
        self.assertIn("none.tokens", run("verify", missing, expect=2).stderr)
        self.assertFalse((self.root / "told").exists())  # nothing is written


if __name__ == "__main__":
    unittest.main()
