"""Compressed gradients (VeLoRA): trained, resumed, planned, verified, and refused."""

import json
import struct
import unittest

import harness
from harness import run

VELORA = {"target_modules": ["v_proj", "down_proj"], "groups": 8}
STEP = "checkpoints/step-00000010"


class Velora(harness.Workspace):

    def compressed(self, name, **changes):
        return self.job(name, training={"steps": 10, **changes.pop("training", {})},
                        schedule={"warmup_steps": 0},
                        checkpoint={"every": 5, **changes.pop("checkpoint", {})},
                        velora={**VELORA, **changes.pop("velora", {})}, **changes)

    def test_a_run_learns_and_goes_on_exactly(self):
        # It goes on at another layout; not with other groups.
        other = self.assert_resumes(self.compressed)
        result = run("train", other, "--set", "velora.groups=4", "--set",
                     f"run.output_dir={self.root / 'groups'}", expect=2, ranks=3)
        self.assertIn("moment1.", result.stderr)
        for whole in ("whole-1", "whole-2"):
            for row in self.metrics(whole):
                if "grad_norm" in row:
                    self.assertLess(0, row["compressed_grad_norm"])
                    self.assertLess(row["compressed_grad_norm"], row["grad_norm"])

        # A checkpoint has compressed moments, and directions of norm 1.
        file = self.root / "whole-1" / STEP / "optimizer.safetensors"
        data = file.read_bytes()
        size = struct.unpack("<Q", data[:8])[0]
        header = json.loads(data[8:8 + size])
        name = "model.layers.0.mlp.down_proj.weight"
        self.assertEqual(header[f"moment1.{name}"]["shape"][1], VELORA["groups"])
        direction = header[f"direction.{name}"]
        begin, end = (8 + size + offset for offset in direction["data_offsets"])
        values = struct.unpack(f"<{direction['shape'][0]}f", data[begin:end])
        self.assertAlmostEqual(sum(value * value for value in values), 1.0, delta=1e-5)

    def test_without_it_the_first_loss_is_the_same(self):
        run("train", self.compressed("here"))
        run("train", self.compressed("exact", velora={"target_modules": "none", "groups": 32}))
        self.assertEqual(self.losses("exact")[1], self.losses("here")[1])
        self.assertNotEqual(self.losses("exact")[10], self.losses("here")[10])

    def test_plan_is_the_run_to_the_byte(self):
        plans = self.assert_runs_as_planned(self.compressed, (
            (1, {"velora": {"target_modules": "none", "groups": 32}}),
            (1, {}),
            (1, {"memory": {"activation_checkpointing": "block"},
                 "velora": {"target_modules": ["all-linear"]}}),
            (2, {"parallel": {"sequence": 2, "zero_stage": 3},
                 "memory": {"mini_sequence": {"mlp": 3}}}),
            (3, {"parallel": {"zero_stage": 2}}),
            (3, {"parallel": {"zero_stage": 0}}),
            (4, {"parallel": {"sequence": "2x2", "zero_stage": 1},
                 "training": {"precision": "bf16"}})), steps=2)
        for tag in ("gradients", "optimizer"):
            exact, some, all_matrices = (plan["peak_bytes"][tag] for plan in plans[:3])
            self.assertLess(some, exact)
            self.assertLess(all_matrices, some)

    def test_verify(self):
        for ranks, changes in ((2, {"parallel": {"sequence": 2, "zero_stage": 3}}),
                               (3, {"parallel": {"planner": "flexible"}})):
            job = self.compressed(f"verified-{ranks}", **changes)
            found = json.loads(run("verify", job, "--json", ranks=ranks).stdout)
            self.assertTrue(found["agrees"])

    def test_what_does_not_fit_is_refused(self):
        job = self.compressed("refused")
        for change, *names in (
                ("velora.groups=7", "velora.groups is 7, which does not divide the"),
                ('velora.target_modules=["c_attn"]', "velora.target_modules names \"c_attn\""),
                ("velora.target_modules=none", "velora has other keys"),
                ("optimizer.name=adamw_8bit", "velora.target_modules", "adamw_8bit"),
                ("optimizer.name=galore", "velora.target_modules", "galore"),
                ("optimizer.moments=bf16", "optimizer.moments"),
                ("model.model_type=gpt2", "velora is not for model_type \"gpt2\""),
                ("velora.scale=0", "velora.scale")):
            more = ["--set", "model.num_key_value_heads=4"] if "gpt2" in change else []
            if "gpt2" in change:
                more += ["--set", 'velora.target_modules=["c_attn"]']
            result = run("train", job, "--set", change, *more, expect=2)
            for name in names:
                self.assertIn(name, result.stderr)


if __name__ == "__main__":
    unittest.main()
