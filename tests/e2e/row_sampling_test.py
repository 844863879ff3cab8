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
        # It goes on at another layout; not with other groups of matrices.
        other = self.assert_resumes(self.sampled)
        result = run("train", other, "--set", 'column_row_sampling.target_modules=["o_proj"]',
                     "--set", f"run.output_dir={self.root / 'groups'}", expect=2, ranks=3)
        self.assertIn("row_sampling.factors", result.stderr)

    def test_any_ranks_draw_the_same(self):
        settings = {"training": {"precision": "fp64", "steps": 4}}
        losses = {}
        for name, ranks, more in (("alone", 1, {}), ("data", 2, {}),
                                  ("ulysses", 2, {"parallel": {"sequence": "2x1"}}),
                                  ("ring", 2, {"parallel": {"sequence": "1x2"}})):
            run("train", self.sampled(f"draws-{name}", **settings, **more), ranks=ranks)
            losses[name] = self.losses(f"draws-{name}")
            for step, loss in losses[name].items():
                self.assertAlmostEqual(loss, losses["alone"][step], delta=1e-9)
        exact = {"column_row_sampling": {"target_modules": "none", "ratio": 0.3}}
        run("train", self.sampled("draws-none", **settings, **exact))
        self.assertEqual(self.losses("draws-none")[1], losses["alone"][1])
        self.assertGreater(abs(self.losses("draws-none")[4] - losses["alone"][4]), 1e-7)

    def test_plan_is_the_run_to_the_byte(self):
        self.assert_runs_as_planned(self.sampled, (
            (1, {}),
            (1, {"memory": {"activation_checkpointing": "block"},
                 "column_row_sampling": {"target_modules": "all-linear"},
                 "training": {"precision": "bf16"}}),
            (2, {"parallel": {"sequence": 2, "zero_stage": 3},
                 "memory": {"mini_sequence": {"mlp": 3}}}),
            (3, {"parallel": {"zero_stage": 2}})), steps=3)

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
