"""Adapters beside a frozen base: trained, resumed, planned, evaluated, merged, and refused."""

import json
import shutil
import unittest

import harness
from harness import run
from model_files_test import tensors_of

FAMILIES = {
    "llama": {"tie_word_embeddings": True},
    "gpt2": {"model_type": "gpt2", "num_key_value_heads": 4},
    "phi3": {"model_type": "phi3"},
}
STEP = "checkpoints/step-00000010"


class Adapters(harness.Workspace):

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        for family, model in FAMILIES.items():
            job = cls.job(f"base-{family}", model=model, training={"steps": 10},
                          schedule={"warmup_steps": 2}, checkpoint={"every": 0})
            run("train", job)
            run("export", cls.root / f"base-{family}", "-o", cls.root / f"model-{family}")

    def adapted(self, name, family="llama", adapter=None, **changes):
        """A job of an adapter beside the family's model."""
        job = self.job(name, training={"steps": 10, **changes.pop("training", {})},
                       checkpoint={"every": 5, **changes.pop("checkpoint", {})},
                       schedule={"warmup_steps": 0},
                       adapter={"type": "lora", "rank": 4, "alpha": 8, **(adapter or {})}, **changes)
        keys = json.loads(job.read_text())
        keys["model"] = {"from": str(self.root / f"model-{family}")}
        job.write_text(json.dumps(keys))
        return job

    def refused(self, *arguments, names=()):
        result = run(*arguments, expect=2)
        for name in names:
            self.assertIn(name, result.stderr)

    def loss(self, *arguments):
        return json.loads(run("evaluate", *arguments, self.tokens, "--json", "-").stdout)["loss"]

    def test_a_run_learns_leaves_its_base_alone_and_merges(self):
        for family in FAMILIES:
            name = f"run-{family}"
            model = self.root / f"model-{family}"
            before = tensors_of(model)
            run("train", self.adapted(name, family, optimizer={"learning_rate": 3e-2}))
            self.assertEqual(tensors_of(model), before)
            losses = self.losses(name)
            self.assertLess(losses[10], losses[1])
            step = self.root / name / STEP
            files = sorted(path.name for path in step.iterdir())
            self.assertIn("adapter_model.safetensors", files)
            self.assertNotIn("model.safetensors", files)
            config = json.loads((step / "adapter_config.json").read_text())
            self.assertEqual(config["base_model_name_or_path"], str(model))
            self.assertEqual((config["r"], config["lora_alpha"]), (4, 8))
            self.assertEqual(config["fan_in_fan_out"], family == "gpt2")
            # Merged it is a model, which gives the same; and it is not the base.
            merged = self.root / f"merged-{family}"
            run("export", self.root / name, "--merge", "-o", merged)
            run("import", merged)
            apart = self.loss(self.root / name)
            self.assertAlmostEqual(self.loss(merged), apart, delta=2e-6 * apart)
            self.assertGreater(abs(self.loss(model) - apart), 2e-5)
            changed = [name for name, tensor in tensors_of(merged).items() if tensor != before[name]]
            self.assertEqual(len(changed), 2 * {"llama": 7, "gpt2": 4, "phi3": 4}[family])
            # Deterministic, for a run and for what goes on from a checkpoint at other ranks.
            run("generate", self.root / name, "--prompt", "in the", "--max-tokens", 5)

    def test_resuming_is_exact_and_goes_on_at_any_layout(self):
        for dropout in (0.0, 0.2):
            whole, parts = f"whole-{dropout}", f"parts-{dropout}"
            run("train", self.adapted(whole, adapter={"dropout": dropout}), ranks=2)
            job = self.adapted(parts, adapter={"dropout": dropout})
            run("train", job, "--until-step", 5, ranks=2)
            run("train", job, ranks=2)
            self.assertEqual(self.metrics(whole), self.metrics(parts))
            other = self.adapted(f"other-{dropout}", adapter={"dropout": dropout},
                                 parallel={"sequence": 3, "zero_stage": 3},
                                 training={"micro_batch_tokens": 128},
                                 memory={"activation_checkpointing": "block"},
                                 checkpoint={"resume": str(self.root / parts /
                                                           "checkpoints/step-00000005")})
            run("train", other, ranks=3)
            for step, loss in self.losses(f"other-{dropout}").items():
                self.assertAlmostEqual(loss, self.losses(whole)[step], delta=1e-4)

    def test_an_adapter_goes_on_from_another(self):
        run("train", self.adapted("first", adapter={"rank_stabilized": True, "rank": 3,
                                                    "target_modules": ["q_proj", "down_proj"]}))
        step = self.root / "first" / STEP
        job = self.adapted("second", adapter={"from": str(step), "rank": 3, "rank_stabilized": True,
                                              "target_modules": ["q_proj", "down_proj"]},
                           training={"steps": 1})
        run("train", job, "--set", "optimizer.learning_rate=1e-12", "--set",
            "optimizer.weight_decay=0")
        self.assertAlmostEqual(self.loss(self.root / "second"), self.loss(step), delta=1e-6)
        for key, value in (("rank", 4), ("alpha", 9), ("target_modules", '["q_proj"]')):
            self.refused("train", job, "--set", f"adapter.{key}={value}",
                         names=[f"adapter.{key} is not what adapter_config.json"])
        # Without its own numbers the job has the adapter's.
        keys = json.loads(job.read_text())
        keys["adapter"] = {"type": "lora", "from": str(step)}
        keys["run"]["output_dir"] = str(self.root / "third")
        job.write_text(json.dumps(keys))
        run("train", job)
        self.assertEqual(json.loads((self.root / "third" / "job.json").read_text())["adapter"]["rank"],
                         3)

    def test_plan_is_the_run_to_the_byte(self):
        plans = self.assert_runs_as_planned(self.adapted, (
            (1, {}),
            (1, {"adapter": {"dropout": 0.1}, "memory": {"activation_checkpointing": "block"}}),
            (1, {"training": {"precision": "bf16"}, "adapter": {"target_modules": ["v_proj"]}}),
            (2, {"parallel": {"sequence": 2, "zero_stage": 3}, "adapter": {"dropout": 0.1},
                 "memory": {"mini_sequence": {"mlp": 3}}}),
            (3, {"parallel": {"zero_stage": 2}}),
            (1, {"adapter": {"base_weights": "nf4"}}),
            (1, {"adapter": {"base_weights": "nf4"}, "training": {"precision": "bf16"},
                 "memory": {"activation_checkpointing": "block"}}),
            (2, {"adapter": {"base_weights": "nf4"}, "parallel": {"sequence": 2, "zero_stage": 3}}),
            (3, {"adapter": {"base_weights": "nf4"}, "parallel": {"zero_stage": 1}}),
            (4, {"parallel": {"sequence": "2x2", "zero_stage": 3},
                 "training": {"precision": "bf16"}})), steps=2)
        self.assertEqual(len(plans), 10)
        for plan in plans:
            self.assertLess(plan["trained_parameters"], plan["parameters"])
            # Adapters alone have gradients and an optimizer.
            self.assertLess(plan["peak_bytes"]["optimizer"], 12 * plan["trained_parameters"] + 4096)

    def test_a_packed_base_trains_resumes_and_takes_less(self):
        packed = {"base_weights": "nf4"}
        run("train", self.adapted("packed", adapter=packed, optimizer={"learning_rate": 3e-2}), ranks=2)
        losses = self.losses("packed")
        self.assertLess(losses[10], losses[1])
        run("train", self.adapted("unpacked", optimizer={"learning_rate": 3e-2}), ranks=2)
        # Codes change the base a little, and not more.
        self.assertNotEqual(losses[1], self.losses("unpacked")[1])
        self.assertAlmostEqual(losses[1], self.losses("unpacked")[1], delta=0.05)
        job = self.adapted("packed-parts", adapter=packed, optimizer={"learning_rate": 3e-2})
        run("train", job, "--until-step", 5, ranks=2)
        run("train", job, ranks=2)
        self.assertEqual(self.metrics("packed"), self.metrics("packed-parts"))
        # At other ranks and with its shards apart the same codes, and so the same losses.
        run("train", self.adapted("packed-apart", adapter=packed, optimizer={"learning_rate": 3e-2},
                                  parallel={"sequence": 3, "zero_stage": 3}), ranks=3)
        for step, loss in self.losses("packed-apart").items():
            self.assertAlmostEqual(loss, losses[step], delta=1e-4)
        # What is written is an adapter as any other, and runs beside the base as it is.
        apart = self.loss(self.root / "packed")
        self.assertAlmostEqual(apart, losses[10], delta=0.5)
        weights = {name: json.loads(run("plan", self.adapted(f"plan-{name}", adapter=adapter),
                                        "--json").stdout)["peak_bytes"]["weights"]
                   for name, adapter in (("packed", packed), ("full", {}))}
        self.assertLess(weights["packed"], weights["full"])

    def test_verify_inspect_and_planned_steps(self):
        for ranks, changes in ((2, {"parallel": {"sequence": 2, "zero_stage": 3}}),
                               (3, {"parallel": {"planner": "flexible"}}),
                               (4, {"adapter": {"base_weights": "nf4"},
                                    "parallel": {"sequence": "2x2", "zero_stage": 3}})):
            job = self.adapted(f"verified-{ranks}",
                               adapter={"dropout": 0.2, **changes.pop("adapter", {})}, **changes)
            found = json.loads(run("verify", job, "--json", ranks=ranks).stdout)
            self.assertTrue(found["agrees"])
            gradients = found["comparisons"][0]["relative_error"]["gradients"]
            self.assertEqual(len(gradients), 28)
            self.assertTrue(all("lora" in name for name in gradients))
        run("train", self.adapted("planned", parallel={"planner": "flexible"},
                                  adapter={"dropout": 0.1}), ranks=2)
        found = json.loads(run("inspect", self.root / "planned" / STEP, "--json").stdout)
        self.assertEqual(found["adapter"]["rank"], 4)
        self.assertEqual(found["adapter"]["tensors"], 28)

    def test_what_does_not_fit_is_refused(self):
        job = self.adapted("refused")
        self.refused("train", job, "--set", 'adapter.target_modules=["c_attn"]',
                     names=["c_attn", "q_proj, k_proj, v_proj"])
        self.refused("train", self.adapted("refused-gpt2", "gpt2"), "--set", "adapter.base_weights=nf4",
                     names=["adapter.base_weights is \"nf4\"", "gpt2", "legal: \"full\""])
        self.refused("train", job, "--set", "adapter.base_weights=int4", names=["\"nf4\""])
        self.refused("train", job, "--set", "adapter.type=none", names=["adapter.type"])
        run("train", job)
        step = self.root / "refused" / STEP
        self.refused("export", step, "-o", self.root / "nowhere", names=["--merge"])
        self.refused("export", self.root / "base-llama", "--merge", "-o", self.root / "nowhere",
                     names=["no adapter"])
        self.refused("generate", self.root / "model-llama", "--base", self.root, "--prompt", "a",
                     names=["no adapter"])
        self.refused("train", job, "--set", "adapter.alpha=9", "--set", "training.steps=20",
                     names=["scale 2", "scale 2.25"])
        self.refused("train", job, "--set", "adapter.type=none", "--set", "adapter.rank=16", "--set",
                     "adapter.alpha=32", names=["the checkpoint of an adapter"])
        # PEFT's own directory has no manifest; what is wrong with it is told by name.
        plain = self.root / "plain"
        plain.mkdir()
        for name in ("adapter_config.json", "adapter_model.safetensors"):
            shutil.copy(step / name, plain / name)
        self.assertAlmostEqual(self.loss(plain), self.loss(step), delta=1e-9)
        config = json.loads((plain / "adapter_config.json").read_text())

        def with_config(**changes):
            (plain / "adapter_config.json").write_text(json.dumps({**config, **changes}))

        with_config(use_dora=True)
        self.refused("evaluate", plain, self.tokens, names=["adapter_config.json: use_dora"])
        with_config(base_model_name_or_path="somewhere/else")
        self.refused("evaluate", plain, self.tokens, names=["somewhere/else", "--base"])
        self.assertAlmostEqual(self.loss(plain, "--base", self.root / "model-llama"), self.loss(step),
                               delta=1e-9)
        self.refused("evaluate", plain, "--base", self.root / "model-gpt2", self.tokens,
                     names=["q_proj"])
        with_config(r=5)
        self.refused("evaluate", plain, self.tokens, names=["lora_A.weight is float32 [4, 32]"])
        with_config(target_modules=["q_proj"])
        self.refused("evaluate", plain, self.tokens, names=["know nothing"])


if __name__ == "__main__":
    unittest.main()
