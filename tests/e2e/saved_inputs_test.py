"""memory.saved_inputs in parts of the tokens, and chosen by "auto": plans are the runs' ledgers, losses
those of jobs that keep everything. What waits on the host does so on the stand-in for a GPU
(tests/cuda_shim)."""

import json
import os
import pathlib
import unittest

import harness
from harness import run

SHIM = os.environ.get("LONGSPAN_SHIM", "")
PROFILES = pathlib.Path(__file__).resolve().parents[2] / "configs" / "devices"
SLOTS = ("block_input", "block_middle", "attention_qkv", "attention_output", "mlp_up")
# Of a row of 48 tokens a layer keeps, in float32: x, mid, q, k and v, the attention's output; gate and up.
LAYERS, TOKENS, HIDDEN, INNER = 5, 48, 32, 64
QKV = 2 * HIDDEN


class SavedInputs(harness.Workspace):

    def write(self, name, saved, ranks=1, **sections):
        model = {"num_hidden_layers": LAYERS, **sections.pop("model", {})}
        return self.job(name, **{
            **sections, "model": model, "data": {"packing": "streamed"},
            "run": {"threads": 1, **sections.get("run", {})},
            "training": {"steps": 2, "tokens_per_step": TOKENS * ranks, "micro_batch_tokens": TOKENS,
                         "validation_every": 0, **sections.get("training", {})},
            "memory": {"saved_inputs": saved, **sections.get("memory", {})},
            "checkpoint": {"every": 0}, "schedule": {"warmup_steps": 0}})

    def steps(self, name):
        return [row for row in self.metrics(name) if "peak_bytes" in row]

    def plan(self, job, ranks=1, *more, program=harness.LONGSPAN):
        return json.loads(run("plan", job, "--json", "--world-size", ranks, *more, program=program).stdout)

    def assert_losses(self, name, expected, delta=1e-5):
        for found, wanted in zip(self.steps(name), self.steps(expected), strict=True):
            self.assertAlmostEqual(found["loss"], wanted["loss"], delta=delta)
            self.assertAlmostEqual(found["grad_norm"], wanted["grad_norm"], delta=10 * delta)

    def assert_saved(self, name, plan, ranks):
        """Ranks that share one GPU, as a plan's do not, have staging of what they send beside it."""
        if ranks == 1:
            self.assert_planned(name, plan)
        for row in self.steps(name):
            self.assertEqual(plan["peak_bytes"]["saved"], row["peak_bytes"]["saved"])

    def test_parts_on_the_processor_to_the_byte(self):
        again = {"attention_qkv": "0.3 full | recompute", "mlp_up": "0.7 recompute | full"}
        codes = {"block_input": "0.5 int8 | full", "block_middle": "0.25 int8_rows | 0.25 full | int8",
                 "attention_qkv": "0.9 int8 | recompute", "attention_output": "0-2: 0.37 full | int8",
                 "mlp_up": "0.1 int8_rows | 0.4 full | recompute", "rounding": "stochastic"}
        cases = [(again, "fp32", 1, 1, "llama", {}), (codes, "bf16", 1, 1, "llama", {}),
                 (codes, "fp32", 1, 1, "gpt2", {"num_key_value_heads": 4}),
                 (codes, "bf16", 2, "1x2", "llama", {}), (again, "fp32", 3, "1x3", "qwen3", {}),
                 ({**codes, "attention_qkv": "0.6 int8 | full"}, "fp32", 4, "2x2", "llama", {}),
                 ({"mlp_up": "recompute", "attention_output": "0.01 int8 | full"}, "fp32", 2, 2, "gemma3_text", {})]
        for number, (saved, precision, ranks, sequence, family, sizes) in enumerate(cases):
            name = f"parts-{number}"
            with self.subTest(saved=saved, family=family, sequence=sequence):
                job = self.write(name, saved, model={"model_type": family, **sizes},
                                 training={"precision": precision}, parallel={"sequence": sequence})
                plan = self.plan(job, ranks)
                run("train", job, ranks=ranks)
                self.assert_planned(name, plan)
                self.assertEqual(plan["flops"]["recomputed"] > 0,
                                 any("recompute" in word for word in saved.values()))
                if saved is again:
                    full = self.write(f"full-{number}", {}, model={"model_type": family, **sizes},
                                      training={"precision": precision}, parallel={"sequence": sequence})
                    run("train", full, ranks=ranks)
                    self.assert_losses(name, f"full-{number}")
                    self.assertLess(plan["peak_bytes"]["saved"], self.plan(full, ranks)["peak_bytes"]["saved"])

    def test_a_layout_with_parts_is_proved(self):
        job = self.write("proved", {"block_input": "0.5 int8 | full", "attention_qkv": "0.4 full | recompute",
                                    "mlp_up": "2: recompute, 4: 0.5 full | recompute"}, ranks=2)
        for sequence in ("1x2", "1"):
            told = run("verify", job, "--set", f"parallel.sequence={sequence}", ranks=2)
            self.assertIn("agree", told.stdout)

    @unittest.skipUnless(SHIM, "no stand-in for a GPU in this build")
    def test_parts_on_the_host_to_the_byte(self):
        full = self.write("kept", {}, ranks=2)
        run("train", full)
        device = {"device": "cuda", "device_profile": "h200"}
        for number, (saved, memory, sequence, ranks) in enumerate([
                ({slot: "0.6 host | full" for slot in SLOTS}, {}, 1, 1),
                ({"block_input": "host", "attention_qkv": "0.25 host | recompute",
                  "mlp_up": "0-3: 0.5 host | 0.1 full | recompute"}, {}, 1, 1),
                ({"block_input": "0.3 full | host"}, {"activation_checkpointing": "block"}, 1, 1),
                ({slot: "0.6 host | full" for slot in SLOTS[:4]} | {"mlp_up": "0.5 host | recompute"}, {}, 2, 2)]):
            name = f"host-{number}"
            with self.subTest(saved=saved):
                job = self.write(name, saved, ranks=2, run=device, memory={"limit": "64MiB", **memory},
                                 parallel={"sequence": sequence})
                plan = self.plan(job, ranks, program=SHIM)
                self.assertGreater(plan["host_bytes"], 0)
                run("train", job, program=SHIM, ranks=ranks if ranks > 1 else 0)
                self.assert_saved(name, plan, ranks)
                self.assert_losses(name, "kept")

    def slow_link(self, bytes_a_second):
        profile = json.loads((PROFILES / "h200.json").read_text(encoding="utf-8"))
        profile["host_bandwidth"] = bytes_a_second
        path = self.root / "slow.json"
        path.write_text(json.dumps(profile), encoding="utf-8")
        return path

    def bound_by_link(self, always, split):
        """A profile with whose link half of what can be made again goes."""
        job = self.write("measured", {"policy": "auto"}, run={"device_profile": "h200"})
        seconds = self.plan(job)["saved_inputs"]["layer_seconds"]
        return self.slow_link((always + split / 2) / seconds)

    @unittest.skipUnless(SHIM, "no stand-in for a GPU in this build")
    def test_auto_runs_what_the_plan_says(self):
        always, split = 4 * TOKENS * 3 * HIDDEN, 4 * TOKENS * (QKV + 2 * INNER)
        run("train", self.write("automatic-kept", {}, ranks=2))
        profile = self.bound_by_link(always, split)
        for name, more, alpha, binds, ranks in (
                ("link", {}, 0.5, "link", 1), ("host", {"host_limit": 3 * (always + split // 4)}, 0.25, "host", 1),
                ("ranks", {"host_limit": 3 * (always + split // 4)}, 0.25, "host", 2)):
            with self.subTest(name):
                job = self.write(name, {"policy": "auto", **more}, ranks=2, memory={"limit": "64MiB"},
                                 run={"device": "cuda", "device_profile": str(profile)})
                plan = self.plan(job, ranks, program=SHIM)
                chosen = plan["saved_inputs"]
                self.assertEqual((chosen["always_bytes"], chosen["split_bytes"]), (always, split))
                self.assertAlmostEqual(chosen["alpha"], alpha, delta=1e-5)
                self.assertEqual((chosen["always"], chosen["binds"], chosen["layers"]), (1, binds, LAYERS - 2))
                self.assertEqual(chosen["alpha"], chosen["bounds"][binds]["alpha"])
                self.assertRegex(chosen["slots"]["mlp_up"], r"^0-2: 0\.\d+ host \| recompute$")
                text = run("plan", job, "--world-size", ranks, program=SHIM).stdout
                self.assertIn(f"  {binds}: ", text)
                self.assertIn(f"alpha = {chosen['alpha']:g}", text)
                if name == "host":
                    continue
                told = run("train", job, program=SHIM, ranks=ranks if ranks > 1 else 0).stdout
                self.assertIn("<- binds", told)
                self.assertIn(chosen["slots"]["mlp_up"], told)
                self.assert_saved(name, plan, ranks)
                self.assert_losses(name, "automatic-kept")
                # What was asked for, not what came of it.
                written = json.loads((self.root / name / "job.json").read_text(encoding="utf-8"))
                self.assertEqual(written["memory"]["saved_inputs"]["policy"], "auto")
                self.assertEqual(written["memory"]["saved_inputs"]["mlp_up"], "full")
        self.assertIn("agree", run("verify", job, "--set", "memory.limit=256MiB", program=SHIM, ranks=2).stdout)

    def test_auto_on_a_processor_keeps_everything(self):
        job = self.write("processor", {"policy": "auto"})
        self.assertIn("memory is the host's", run("plan", job).stdout)
        plan = self.plan(job)
        self.assertIn("why_none", plan["saved_inputs"])
        self.assertEqual(set(plan["saved_inputs"]["slots"].values()), {"full"})
        told = run("train", job).stdout
        self.assertIn("everything is kept in full", told)
        self.assert_planned("processor", plan)
        run("train", self.write("by-slot", {}))
        self.assert_same_run("processor", "by-slot")
        self.assertIn("memory is the host's",
                      run("train", job, "--dry-run", "--set", f"run.output_dir={self.root}/dry").stdout)

    def test_at_64k_tokens_the_device_keeps_as_much_with_4_layers_as_with_16(self):
        tokens = 65536
        model = {"hidden_size": 1024, "intermediate_size": 2816, "num_attention_heads": 8,
                 "num_key_value_heads": 4, "max_position_embeddings": tokens}

        def plan(layers, name, saved):
            return self.plan(self.write(
                f"long-{name}-{layers}", saved, run={"device_profile": "h200"},
                model={**model, "num_hidden_layers": layers},
                training={"precision": "bf16", "tokens_per_step": tokens, "micro_batch_tokens": tokens}))

        parts = {slot: "host" for slot in SLOTS} | {"attention_qkv": "0.5 host | recompute",
                                                    "mlp_up": "0.25 host | recompute"}
        for name, saved in (("auto", {"policy": "auto"}), ("parts", parts)):
            with self.subTest(name):
                few, many = plan(4, name, saved), plan(16, name, saved)
                # Norms' statistics and log-sum-exps stay: 4 bytes each, two and one for each head.
                statistics = tokens * 4 * (2 + 8)
                self.assertLessEqual(many["peak_bytes"]["saved"], few["peak_bytes"]["saved"] + 12 * statistics)
                self.assertGreater(many["host_bytes"], 4 * few["host_bytes"] - few["host_bytes"] // 2)
        full = plan(16, "full", {})
        self.assertLess(plan(16, "auto", {"policy": "auto"})["peak_bytes"]["saved"],
                        0.4 * full["peak_bytes"]["saved"])

    def test_the_longest_sequence_has_its_own_choice(self):
        job = self.write("longest", {"policy": "auto", "host_limit": "64MiB"}, run={"device_profile": "h200"},
                         memory={"limit": "64MiB"})
        longest = self.plan(job, 1, "--max-sequence")
        kept = self.plan(job, 1, "--max-sequence", "--set", "memory.saved_inputs.policy=by_slot",
                         "--set", "memory.saved_inputs.host_limit=auto")
        self.assertGreater(longest["micro_batch_tokens"], 1.5 * kept["micro_batch_tokens"])
        tokens = longest["micro_batch_tokens"]
        settings = [f"training.micro_batch_tokens={tokens}", f"training.tokens_per_step={tokens}",
                    f"model.max_position_embeddings={tokens}"]
        same = self.plan(job, 1, *(part for setting in settings for part in ("--set", setting)))
        self.assertEqual(longest["saved_inputs"], same["saved_inputs"])
        self.assertTrue(same["fits"])

    def test_what_is_refused(self):
        job = self.write("refused", {})

        def refusal(*settings, ranks=1):
            return run("plan", job, "--world-size", ranks,
                       *(part for setting in settings for part in ("--set", f"memory.saved_inputs.{setting}")),
                       expect=2).stderr

        self.assertIn("legal: \"full\", \"host\"", refusal("mlp_up=0.6 hst | full"))
        self.assertIn("block_keep_attention", refusal("block_middle=recompute"))
        self.assertIn("2 Ulysses ranks exchange heads",
                      run("plan", job, "--world-size", 2, "--set", "parallel.sequence=2", "--set",
                          "memory.saved_inputs.attention_qkv=recompute", expect=2).stderr)
        self.assertIn("memory.saved_inputs has \"host\"", refusal("block_input=0.1 host | full"))
        self.assertIn("chooses for every slot", refusal("policy=auto", "mlp_up=recompute"))
        self.assertIn("does not keep", run("plan", job, "--set", "memory.activation_checkpointing=block", "--set",
                                           "memory.saved_inputs.mlp_up=0.5 full | recompute", expect=2).stderr)


if __name__ == "__main__":
    unittest.main()
