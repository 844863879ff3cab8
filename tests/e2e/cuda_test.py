"""run.device "cuda" from the command line: the cuda backend's own sources on the processor
(tests/cuda_shim), with which a job trains as on a GPU, only slowly."""

import json
import os
import unittest

import harness
from harness import run
from traces import Trace

SHIM = os.environ["LONGSPAN_SHIM"]
CLIPS_ON_CPU = ["--set", "run.device=cpu", "--set", "run.device_profile=cpu"]
CPU = [*CLIPS_ON_CPU, "--set", "memory.saved_inputs.block_input=full"]


class OnTheStandIn(harness.Workspace):

    def write(self, name, **sections):
        return self.job(name, **{
            **sections,
            "run": {"device": "cuda", "device_profile": "h200", "threads": 1},
            "data": {"packing": "streamed"},
            "training": {"steps": 2, "tokens_per_step": 96, "micro_batch_tokens": 48,
                         "validation_every": 0, **sections.get("training", {})},
            "memory": {"limit": "48MiB", **sections.get("memory", {})},
            "checkpoint": {"every": 0}, "schedule": {"warmup_steps": 0}})

    def steps(self, name):
        return [row for row in self.metrics(name) if "peak_bytes" in row]

    def test_plan_is_the_ledger_and_loss_is_the_cpus(self):
        for number, (level, offload) in enumerate((("none", "full"), ("block", "host"),
                                                   ("block_keep_attention", "host"))):
            with self.subTest(level):
                memory = {"activation_checkpointing": level, "saved_inputs": {"block_input": offload}}
                job = self.write(f"cuda-{number}", training={"precision": "fp32"}, memory=memory)
                run("train", job, program=SHIM)
                plan = json.loads(run("plan", job, "--json", program=SHIM).stdout)
                for row in self.steps(f"cuda-{number}"):
                    self.assertEqual(plan["peak_bytes"], row["peak_bytes"])
                run("train", job, *CPU, "--set", f"run.output_dir={self.root}/cpu-{number}")
                for found, expected in zip(self.steps(f"cuda-{number}"),
                                           self.steps(f"cpu-{number}"), strict=True):
                    self.assertAlmostEqual(found["loss"], expected["loss"], delta=1e-5)
                    self.assertAlmostEqual(found["grad_norm"], expected["grad_norm"], delta=1e-5)

    def test_bf16_follows_the_cpu(self):
        job = self.write("bf16", training={"precision": "bf16", "steps": 4})
        run("train", job, program=SHIM)
        run("train", job, *CPU, "--set", f"run.output_dir={self.root}/bf16-cpu")
        for found, expected in zip(self.steps("bf16"), self.steps("bf16-cpu"), strict=True):
            self.assertAlmostEqual(found["loss"], expected["loss"], delta=5e-3)

    def test_an_optimizer_on_the_host_gives_the_same_bits(self):
        losses = []
        for offload in ("none", "host"):
            job = self.write(f"optimizer-{offload}", training={"precision": "fp32", "steps": 3},
                             optimizer={"learning_rate": 1e-3, "offload": offload})
            run("train", job, program=SHIM)
            losses.append([row["loss"] for row in self.steps(f"optimizer-{offload}")])
        for resident, offloaded in zip(*losses, strict=True):
            self.assertAlmostEqual(resident, offloaded, delta=1e-6)

    def test_states_on_several_hosts_are_saved_and_resumed(self):
        changes = {"training": {"precision": "fp32", "steps": 3}, "parallel": {"data": 2},
                   "optimizer": {"learning_rate": 1e-3, "offload": "host"},
                   "memory": {"limit": "128MiB"}}
        run("train", self.write("straight", **changes), program=SHIM, ranks=2)
        job = self.write("stopped", **changes)
        run("train", job, "--until-step", 2, program=SHIM, ranks=2)
        self.assertIn("resumed after step 2", run("train", job, program=SHIM, ranks=2).stdout)
        self.assertEqual(self.losses("straight"), self.losses("stopped"))

    def assert_same_anywhere(self, name, keys, of_cpu, write=None, cpu=CPU, ranks=0, **changes):
        """A job's runs with its optimizer on the GPU and on the host, as planned, and on the CPU: the same
        figures, to `of_cpu` on the last."""
        optimizer = {"learning_rate": 1e-3, **changes.pop("optimizer", {})}
        for offload in ("none", "host"):
            job = (write or self.write)(f"{name}-{offload}", optimizer={**optimizer, "offload": offload},
                                        **changes)
            run("train", job, program=SHIM, ranks=ranks)
            plan = json.loads(run("plan", job, "--world-size", max(1, ranks), "--json",
                                  program=SHIM).stdout)
            for row in self.steps(f"{name}-{offload}"):
                for kind, peak in plan["peak_bytes"].items():
                    # Ranks of one GPU send by MPI, from buffers that those of a plan have not.
                    if ranks == 0 or kind not in ("communication", "total"):
                        self.assertEqual((kind, peak), (kind, row["peak_bytes"][kind]))
        run("train", job, *cpu, "--set", "optimizer.offload=none", "--set",
            f"run.output_dir={self.root}/{name}-cpu", ranks=ranks)
        for resident, offloaded, cpu in zip(*(self.steps(f"{name}-{where}")
                                              for where in ("none", "host", "cpu")), strict=True):
            for key in keys:
                self.assertAlmostEqual(resident[key], offloaded[key], delta=1e-6)
                self.assertAlmostEqual(resident[key], cpu[key], delta=of_cpu)

    def test_compressed_gradients(self):
        self.assert_same_anywhere("velora", ("loss", "grad_norm", "compressed_grad_norm"), 1e-5,
                                  training={"precision": "fp32", "steps": 3},
                                  velora={"target_modules": ["v_proj", "down_proj"], "groups": 8})

    def test_sampled_gradients_and_chosen_parameters(self):
        self.assert_same_anywhere("sampled", ("loss", "grad_norm"), 1e-4,
                                  training={"precision": "fp32", "steps": 4},
                                  column_row_sampling={"target_modules": ["v_proj", "down_proj"],
                                                       "ratio": 0.4},
                                  optimizer={"name": "blockllm",
                                             "blockllm": {"active": 0.3, "interval": 2}})

    def clips(self, name, **changes):
        return self.write_job(name, {
            "run": {"output_dir": str(self.root / name), "device": "cuda", "device_profile": "h200",
                    "threads": 1},
            "model": {"model_type": "spatial_temporal", "hidden_size": 16, "intermediate_size": 32,
                      "num_hidden_layers": 2, "num_attention_heads": 2, "num_classes": 3},
            "data": {"clips": "sprites", "sprites": {"shapes": ["3x4x8"]}},
            "schedule": {"warmup_steps": 0},
            "training": {"steps": 3, "objective": "rectified_flow", "clips_per_step": 2,
                         "clips_per_micro_batch": 2, "precision": "fp32"},
            "memory": {"limit": "48MiB"}, "checkpoint": {"every": 0}}, changes)

    def test_clips(self):
        for ranks in (0, 2):
            self.assert_same_anywhere(
                f"clips-{ranks}", ("loss", "grad_norm"), 1e-5, write=self.clips, cpu=CLIPS_ON_CPU,
                ranks=ranks, parallel={"sequence": max(1, ranks)},
                memory={"limit": f"{48 * max(1, ranks)}MiB", "activation_checkpointing": "block"})

    def test_ranks_that_share_one_gpu(self):
        job = self.write("ranks", training={"precision": "fp32"})
        told = run("verify", job, "--set", "memory.limit=128MiB", "--set", "parallel.sequence=2", "--set", "parallel.zero_stage=3",
                   program=SHIM, ranks=2)
        self.assertIn("agree", told.stdout)

    def test_gradients_that_leave_beside_the_backward_are_planned(self):
        for stage in (1, 3):
            for overlap in ("true", "false"):
                with self.subTest(stage=stage, overlap=overlap):
                    name = f"overlap-{stage}-{overlap}"
                    job = self.write(name, training={"precision": "fp32"},
                                     parallel={"data": 2, "zero_stage": stage,
                                               "overlap": overlap == "true"})
                    run("train", job, program=SHIM, ranks=2)
                    plan = json.loads(run("plan", job, "--world-size", 2, "--json",
                                          program=SHIM).stdout)
                    for row in self.steps(name):
                        self.assertEqual(plan["peak_bytes"]["gradients"],
                                         row["peak_bytes"]["gradients"])
        losses = [[row["loss"] for row in self.steps(f"overlap-{stage}-{overlap}")]
                  for stage in (1, 3) for overlap in ("true", "false")]
        for other in losses[1:]:
            self.assertEqual(losses[0], other)

    def trace_of(self, job, ranks=0):
        """Trains the job without a trace and with one, which changes nothing."""
        name = job.stem
        run("train", job, "--set", f"run.output_dir={self.root}/{name}-plain", program=SHIM, ranks=ranks)
        path = self.root / f"{name}.trace.json"
        run("train", job, "--trace", path, program=SHIM, ranks=ranks)
        self.assert_same_run(name, f"{name}-plain")
        trace = Trace(path)
        trace.check(self)
        for rank in range(max(1, ranks)):
            self.assertEqual(trace.steps(rank), ["step 2", "step 3"])
            self.assertIn("attention_backward", trace.within(rank, "backward"))
        return trace

    def test_trace_has_a_row_for_each_queue(self):
        trace = self.trace_of(self.write(
            "traced", training={"precision": "fp32", "steps": 3}, optimizer={"offload": "host"},
            memory={"activation_checkpointing": "block", "saved_inputs": {"block_input": "host"}}))
        self.assertEqual({row for _, row in trace.rows},
                         {"places of the step", "compute", "copies", "host"})
        self.assertEqual(trace.names(0, "copies"), {"download", "upload"})
        self.assertTrue(all(event["args"]["bytes"] > 0 for event in trace.row(0, "copies")))
        self.assertEqual(trace.names(0, "host"), {"adamw"})
        self.assertNotIn("adamw", trace.names(0, "compute"))

    def test_trace_of_ranks_that_share_one_gpu(self):
        trace = self.trace_of(self.write(
            "traced-ranks", training={"precision": "fp32", "steps": 3},
            parallel={"sequence": 2, "zero_stage": 3}, memory={"limit": "64MiB"}), ranks=2)
        for rank in range(2):
            self.assertLessEqual({"all_gather", "all_to_all", "reduce_scatter"},
                                 trace.names(rank, "communication"))
            self.assertIn("all_reduce of numbers", trace.names(rank, "host"))

    def test_generates_what_the_cpu_does(self):
        # Of the second, the text soon is longer than its window.
        for name, model in (("generated", {}), ("windowed", {"model_type": "mistral", "sliding_window": 5})):
            run("train", self.write(name, model=model), program=SHIM)
            text = [run("generate", self.root / name, "--prompt", "the", "--max-tokens", 8,
                        "--temperature", 0, "--device", device, program=SHIM).stdout
                    for device in ("cuda", "cpu")]
            self.assertEqual(*text)

    def test_evaluates_as_the_cpu_does(self):
        run("train", self.write("evaluated"), program=SHIM)
        found = [json.loads(run("evaluate", self.root / "evaluated", self.tokens, "--max-tokens", 150, "--json", "-",
                                "--device", device, program=SHIM).stdout) for device in ("cuda", "cpu")]
        self.assertAlmostEqual(found[0]["loss"], found[1]["loss"], delta=1e-5)
        for ours, theirs in zip(*(one["positions"] for one in found), strict=True):
            self.assertEqual(ours["targets"], theirs["targets"])
            self.assertAlmostEqual(ours["loss"], theirs["loss"], delta=1e-5)

    def test_without_cuda_it_is_refused(self):
        job = self.write("refused")
        self.assertIn("built without CUDA", run("train", job, expect=2).stderr)
        self.assertIn("name a device in run.device_profile",
                      run("plan", job, "--set", "run.device_profile=auto", expect=2).stderr)


if __name__ == "__main__":
    unittest.main()
