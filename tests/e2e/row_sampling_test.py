"""Gradients of sampled tokens: trained, resumed, planned, verified, and refused."""

import json
import unittest

import harness
from harness import run

SAMPLING = {"target_modules": ["v_proj", "down_proj"], "ratio": 0.4}


class RowSampling(harness.Workspace):

    def sampled(self, name, **changes):
        return self.job(name, training={"steps": 10, **changes.pop("training", {})},
                        schedule={"warmup_steps": 0},
                        checkpoint={"every": 5, **changes.pop("checkpoint", {})},
                        column_row_sampling={**SAMPLING, **changes.pop("column_row_sampling", {})},
                        **changes)

    def test_a_run_learns_and_goes_on_exactly(self):
        for ranks, more in ((1, {}), (2, {"parallel": {"zero_stage": 3},
                                          "training": {"precision": "bf16"}})):
            whole, parts = f"whole-{ranks}", f"parts-{ranks}"
            run("train", self.sampled(whole, **json.loads(json.dumps(more))), ranks=ranks)
            job = self.sampled(parts, **json.loads(json.dumps(more)))
            run("train", job, "--until-step", 5, ranks=ranks)
            run("train", job, ranks=ranks)
            self.assertEqual(self.metrics(whole), self.metrics(parts))
            losses = self.losses(whole)
            self.assertLess(losses[10], losses[1])
        # It goes on at another layout; not with other groups of matrices.
        other = self.sampled("other", parallel={"sequence": 3, "zero_stage": 3},
                             training={"micro_batch_tokens": 128},
                             checkpoint={"resume": str(self.root / "whole-1" /
                                                       "checkpoints/step-00000005")})
        run("train", other, ranks=3)
        for step, loss in self.losses("other").items():
            self.assertAlmostEqual(loss, self.losses("whole-1")[step], delta=1e-4)
        result = run("train", other, "--set", 'column_row_sampling.target_modules=["o_proj"]',
                     "--set", f"run.output_dir={self.root / 'groups'}", expect=2, ranks=3)
        self.assertIn("row_sampling.factors", result.stderr)

    def test_any_ranks_draw_the_same(self):
        settings = {"training": {"precision": "fp64", "steps": 4}}
        losses = {}
        for name, ranks, more in (("alone", 1, {}), ("data", 2, {}),
                                  ("ulysses", 2, {"parallel": {"sequence": "2x1"}}),
                                  ("ring", 2, {"parallel": {"sequence": "1x2"}})):
            run("train", self.sampled(f"draws-{name}", **json.loads(json.dumps(settings)), **more),
                ranks=ranks)
            losses[name] = self.losses(f"draws-{name}")
            for step, loss in losses[name].items():
                self.assertAlmostEqual(loss, losses["alone"][step], delta=1e-9)
        exact = {"column_row_sampling": {"target_modules": "none", "ratio": 0.3}}
        run("train", self.sampled("draws-none", **json.loads(json.dumps(settings)), **exact))
        self.assertEqual(self.losses("draws-none")[1], losses["alone"][1])
        self.assertGreater(abs(self.losses("draws-none")[4] - losses["alone"][4]), 1e-7)

    def test_plan_is_the_run_to_the_byte(self):
        for number, (ranks, changes) in enumerate((
                (1, {}),
                (1, {"memory": {"activation_checkpointing": "block"},
                     "column_row_sampling": {"target_modules": "all-linear"},
                     "training": {"precision": "bf16"}}),
                (2, {"parallel": {"sequence": 2, "zero_stage": 3},
                     "memory": {"mini_sequence": {"mlp": 3}}}),
                (3, {"parallel": {"zero_stage": 2}}))):
            name = f"planned-{number}"
            training = {"steps": 3, "validation_every": 0, **changes.pop("training", {})}
            job = self.sampled(name, run={"threads": 1}, data={"packing": "streamed"},
                               training=training, **changes)
            with self.subTest(name):
                plan = json.loads(run("plan", job, "--world-size", ranks, "--json").stdout)
                run("train", job, ranks=ranks)
                self.assert_planned(name, plan, steps=3)

    def test_verify(self):
        job = self.sampled("verified", parallel={"sequence": 2, "zero_stage": 3},
                           column_row_sampling={"target_modules": ["layers.1.mlp.down_proj"]})
        found = json.loads(run("verify", job, "--json", ranks=2).stdout)
        self.assertTrue(found["agrees"])

    def test_what_does_not_fit_is_refused(self):
        job = self.sampled("refused")
        for change, *names in (
                ('column_row_sampling.target_modules=["c_attn"]',
                 "column_row_sampling.target_modules names \"c_attn\""),
                ("column_row_sampling.target_modules=none", "column_row_sampling has other keys"),
                ("column_row_sampling.ratio=0", "column_row_sampling.ratio is 0"),
                ("column_row_sampling.ratio=1.5", "column_row_sampling.ratio is 1.5"),
                ("optimizer.name=mezo", "column_row_sampling.target_modules", "\"mezo\""),
                ('velora.target_modules=["v_proj"]', "velora.target_modules both name",
                 "v_proj; legal: one of them")):
            more = ["--set", "velora.groups=8"] if "velora" in change else []
            result = run("train", job, "--set", change, *more, expect=2)
            for name in names:
                self.assertIn(name, result.stderr)


if __name__ == "__main__":
    unittest.main()
