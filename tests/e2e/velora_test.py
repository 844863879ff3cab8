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
        for ranks, more in ((1, {}), (2, {"parallel": {"zero_stage": 3},
                                          "training": {"precision": "bf16"}})):
            whole, parts = f"whole-{ranks}", f"parts-{ranks}"
            run("train", self.compressed(whole, **json.loads(json.dumps(more))), ranks=ranks)
            job = self.compressed(parts, **json.loads(json.dumps(more)))
            run("train", job, "--until-step", 5, ranks=ranks)
            run("train", job, ranks=ranks)
            self.assertEqual(self.metrics(whole), self.metrics(parts))
            losses = self.losses(whole)
            self.assertLess(losses[10], losses[1])
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

        # It goes on at another layout; not with other groups.
        other = self.compressed("other", parallel={"sequence": 3, "zero_stage": 3},
                                training={"micro_batch_tokens": 128},
                                checkpoint={"resume": str(self.root / "whole-1" /
                                                          "checkpoints/step-00000005")})
        run("train", other, ranks=3)
        for step, loss in self.losses("other").items():
            self.assertAlmostEqual(loss, self.losses("whole-1")[step], delta=1e-4)
        result = run("train", other, "--set", "velora.groups=4", "--set",
                     f"run.output_dir={self.root / 'groups'}", expect=2, ranks=3)
        self.assertIn("moment1.", result.stderr)

    def test_without_it_the_first_loss_is_the_same(self):
        run("train", self.compressed("here"))
        run("train", self.compressed("exact", velora={"target_modules": "none", "groups": 32}))
        self.assertEqual(self.losses("exact")[1], self.losses("here")[1])
        self.assertNotEqual(self.losses("exact")[10], self.losses("here")[10])

    def test_plan_is_the_run_to_the_byte(self):
        totals = []
        for number, (ranks, changes) in enumerate((
                (1, {"velora": {"target_modules": "none", "groups": 32}}),
                (1, {}),
                (1, {"memory": {"activation_checkpointing": "block"},
                     "velora": {"target_modules": ["all-linear"]}}),
                (2, {"parallel": {"sequence": 2, "zero_stage": 3},
                     "memory": {"mini_sequence": {"mlp": 3}}}),
                (3, {"parallel": {"zero_stage": 2}}),
                (3, {"parallel": {"zero_stage": 0}}),
                (4, {"parallel": {"sequence": "2x2", "zero_stage": 1},
                     "training": {"precision": "bf16"}}))):
            name = f"planned-{number}"
            training = {"steps": 2, "validation_every": 0, **changes.pop("training", {})}
            job = self.compressed(name, run={"threads": 1}, data={"packing": "streamed"},
                                  training=training, **changes)
            with self.subTest(name):
                plan = json.loads(run("plan", job, "--world-size", ranks, "--json").stdout)
                run("train", job, ranks=ranks)
                self.assert_planned(name, plan, steps=2)
                totals.append(plan["peak_bytes"])
        for tag in ("gradients", "optimizer"):
            self.assertLess(totals[1][tag], totals[0][tag])
            self.assertLess(totals[2][tag], totals[1][tag])

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
