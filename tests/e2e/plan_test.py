"""`longspan plan` predicts what a run then takes: every tag to the byte; and refuses what will not fit."""

import array
import itertools
import json
import os
import pathlib
import random
import struct
import subprocess
import unittest

import harness
from harness import run

ROOT = pathlib.Path(__file__).resolve().parents[2]
VOCAB = 1000
# What a process has beyond its ledger and what the program has when it does nothing: oneDNN's
# generated code, threads' scratch, MPI (docs/memory.md states it).
BEYOND_THE_LEDGER = 160 << 20

SHAPES = {
    "small": {"hidden_size": 64, "intermediate_size": 160, "num_hidden_layers": 3,
              "num_attention_heads": 4, "num_key_value_heads": 2},
    "odd": {"hidden_size": 60, "intermediate_size": 77, "num_hidden_layers": 2,
            "num_attention_heads": 3, "num_key_value_heads": 3, "head_dim": 22},
    "tied": {"hidden_size": 128, "intermediate_size": 352, "num_hidden_layers": 4,
             "num_attention_heads": 8, "num_key_value_heads": 1, "tie_word_embeddings": True},
    "gpt2": {"model_type": "gpt2", "hidden_size": 66, "intermediate_size": 250,
             "num_hidden_layers": 3, "num_attention_heads": 3, "num_key_value_heads": 3},
}
BUDGETS = {
    "auto": {},
    "kept": {"mini_sequence": {"mlp": "none", "lm_head": 1}},
    "sizes": {"mini_sequence": {"mlp": "256KiB", "lm_head": "1MiB"}},
    "counts": {"mini_sequence": {"mlp": 5, "lm_head": 7}},
}
CHECKPOINTING = ["none", "block", "block_keep_attention", "0: block, 1: block_keep_attention"]


def in_codes(level, budget):
    """All that a block keeps, in 8-bit codes."""
    coded = {"block_input": "int8"}
    if level == "none":
        coded.update(block_middle="int8_rows", attention_qkv="int8", attention_output="int8")
        if budget in ("auto", "kept"):
            coded["mlp_up"] = "int8"
        if budget == "kept":
            coded["rounding"] = "stochastic"
    elif level == "block_keep_attention":
        coded["attention_output"] = "0: int8"
    return coded


def cases():
    """(name, job sections, ranks, threads), at least 30."""
    number = 0
    for shape in SHAPES:
        for budget in BUDGETS:
            for level in CHECKPOINTING:
                number += 1
                precision = ["fp32", "bf16", "fp64", "bf16", "fp32"][number % 5]
                tokens = [64, 129, 512, 1000, 2048][number % 5 if precision != "fp64" else 0]
                rows = 1 + number % 3
                ranks = 2 if number % 12 == 5 else 4 if number % 16 == 9 else 0
                rows = max(rows, ranks + (1 if ranks == 2 else 0))
                yield (f"{number:02}-{shape}-{budget}-{precision}-{tokens}", {
                    "run": {"threads": 1 + number % 2},
                    "model": {**SHAPES[shape], "vocab_size": VOCAB, "max_position_embeddings": 2048},
                    "training": {"precision": precision, "steps": 2, "tokens_per_step": rows * tokens,
                                 "micro_batch_tokens": tokens, "validation_every": 0},
                    "data": {"packing": "packed" if number % 2 else "streamed"},
                    "memory": {"activation_checkpointing": level, **BUDGETS[budget],
                               "saved_inputs": in_codes(level, budget) if number % 2 else {}},
                }, ranks)


class PlanEqualsRun(harness.Workspace):

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        # One document longer than all rows, so that packed rows are full too.
        count = 1 << 17
        draw = random.Random(7)
        ids = array.array("i", (draw.randrange(VOCAB) for _ in range(count)))
        (cls.root / "ids.bin").write_bytes(ids.tobytes())
        (cls.root / "ids.idx").write_bytes(
            b"MMIDIDX\0\0" + struct.pack("<QBQQ", 1, 4, 1, 2) + struct.pack("<i", count) +
            struct.pack("<q", 0) + struct.pack("<qq", 0, 1))

    def write(self, name, sections):
        data = {"train": [str(self.root / "ids.bin")], "tokenizer": "", "validation_fraction": 0.0}
        sections = {**sections, "data": {**data, **sections.get("data", {})},
                    "model": {"vocab_size": VOCAB, **sections.get("model", {})},
                    "training": {"validation_every": 0, **sections.get("training", {})},
                    "checkpoint": {"every": 0}, "schedule": {"warmup_steps": 0}}
        return self.job(name, **sections)

    def plan(self, job, ranks=1, *more):
        return json.loads(run("plan", job, "--json", "--world-size", max(ranks, 1), *more).stdout)

    def test_every_tag_to_the_byte(self):
        checked = 0
        for name, sections, ranks in cases():
            with self.subTest(name):
                job = self.write(name, sections)
                plan = self.plan(job, ranks)
                run("train", job, ranks=ranks)
                self.assert_planned(name, plan)
                checked += 1
        self.assertGreaterEqual(checked, 30)

    def test_ranks_that_share_rows(self):
        draw = random.Random(5)
        for number, (ranks, sequence) in enumerate([
                (2, "2"), (2, "1x2"), (3, "3"), (3, "1x3"), (4, "4"), (4, "2x2"), (4, "1x4"), (4, "2"),
                (4, "1x2"), (4, "4"), (3, "3"), (4, "2x2")]):
            shape = SHAPES[list(SHAPES)[number % len(SHAPES)]]
            precision = ["fp32", "bf16"][number % 2]
            tokens = draw.choice([5, 64, 129, 1000])
            name = f"shared-{number}-{sequence}-{precision}-{tokens}"
            with self.subTest(name):
                job = self.write(name, {
                    "run": {"threads": 1}, "model": {**shape, "max_position_embeddings": 2048},
                    "training": {"precision": precision, "steps": 2, "tokens_per_step": 3 * tokens,
                                 "micro_batch_tokens": tokens},
                    "data": {"packing": "streamed"},
                    "memory": {"activation_checkpointing": CHECKPOINTING[number % 4]},
                    "parallel": {"sequence": int(sequence) if sequence.isdigit() else sequence,
                                 "zero_stage": (number + ranks) % 4},
                })
                plan = self.plan(job, ranks)
                run("train", job, ranks=ranks)
                self.assert_planned(name, plan)

    def test_bytes_of_any_layout_are_the_formulas(self):
        heads, kv_heads, head_dim, layers, tokens = 64, 8, 4, 2, 4096
        job = self.write("formulas", {
            "model": {"hidden_size": heads * head_dim, "intermediate_size": 32,
                      "num_hidden_layers": layers, "num_attention_heads": heads,
                      "num_key_value_heads": kv_heads, "max_position_embeddings": tokens},
            "training": {"tokens_per_step": 16 * tokens, "micro_batch_tokens": tokens},
        })
        parameters = self.plan(job)["parameters"]
        for ranks, ulysses, ring, stage in (
                (4, 4, 1, 0), (4, 1, 4, 1), (4, 2, 2, 2), (4, 1, 1, 3), (1024, 64, 1, 0),
                (1024, 1, 64, 1), (1024, 16, 4, 2), (1024, 64, 16, 3)):
            with self.subTest(f"{ranks} ranks, {ulysses}x{ring}, stage {stage}"):
                plan = self.plan(job, ranks, "--set", f"parallel.sequence={ulysses}x{ring}",
                                 "--set", f"parallel.zero_stage={stage}",
                                 "--set", f"training.tokens_per_step={1024 * tokens}")
                self.assertEqual(plan["layout"], {"data": ranks // (ulysses * ring),
                                                  "ulysses": ulysses, "ring": ring})
                sent = plan["comm_bytes"]
                # Forward and backward of every row and layer, float32: q, k, v there and the
                # output back, of which (u - 1) / u moves; heads that several ranks read count
                # once for each.
                row = 4 * tokens * head_dim * layers * 1024
                kv = row * max(kv_heads, ulysses)
                self.assertEqual(sent["all_to_all"],
                                 2 * (ulysses - 1) * (2 * row * heads + 2 * kv) // ulysses)
                hops = 0 if ring == 1 else 2 * (ring - 1) + ring
                self.assertEqual(sent["send_receive"], hops * 2 * kv)
                # ZeRO: every gradient to its owner, every weight from its owner; the gaps that
                # align parameters go along.
                passes = 1024 // (ranks // (ulysses * ring))
                once = 4 * parameters * (ranks - 1)
                least = {"all_reduce": 2 * once if stage == 0 else 0,
                         "reduce_scatter": [0, once, passes * once, passes * once][stage],
                         "all_gather": [0, once, once, 0][stage]}
                for kind, bytes_sent in least.items():
                    if stage == 3 and kind == "all_gather":
                        continue
                    self.assertGreaterEqual(sent[kind], bytes_sent)
                    self.assertLessEqual(sent[kind], 1.05 * bytes_sent)
                if stage == 3:  # blocks twice a pass, embedding and head once
                    self.assertGreater(sent["all_gather"], passes * once)
                    self.assertLess(sent["all_gather"], 2.1 * passes * once)

    def test_four_ranks_train_what_is_almost_four_times_longer(self):
        for level, sequence in (("block", "4"), ("block", "2x2"), ("block_keep_attention", "4"),
                                ("none", "1x4")):
            with self.subTest(f"{level}, {sequence}"):
                name = f"four-{level}-{sequence}"
                job = self.write(name, {
                    "run": {"threads": 1},
                    "model": {"hidden_size": 64, "intermediate_size": 160,
                              "num_hidden_layers": 12, "num_attention_heads": 8,
                              "num_key_value_heads": 4, "max_position_embeddings": 1 << 17},
                    "memory": {"limit": "24MiB", "activation_checkpointing": level,
                               "mini_sequence": {"mlp": "512KiB", "lm_head": "512KiB"}},
                    "data": {"packing": "streamed", "shuffle": False}, "training": {"steps": 1},
                })
                one = self.plan(job, 1, "--max-sequence")["micro_batch_tokens"]
                share = sequence if "x" in sequence else int(sequence)
                shared = ["--set", f"parallel.sequence={share}"]
                four = self.plan(job, 4, "--max-sequence", *shared)["micro_batch_tokens"]
                self.assertGreaterEqual(four, 3.8 * one)
                # By the ledger, too: what the plan allows trains within the limit.
                run("train", job, *shared, "--set", f"training.micro_batch_tokens={four}",
                    "--set", f"training.tokens_per_step={four}", ranks=4)
                row = [row for row in self.metrics(name) if "peak_bytes" in row][-1]
                self.assertEqual(row["tokens"], four)
                self.assertLessEqual(row["peak_bytes"]["total"], 24 << 20)

    def test_a_process_takes_a_constant_more(self):
        for name, tokens, precision in [("least", 64, "fp32"), ("long", 12288, "fp32"),
                                        ("long16", 16384, "bf16")]:
            with self.subTest(name):
                job = self.write(name, {
                    "run": {"threads": 2},
                    "model": {**SHAPES["tied"], "vocab_size": VOCAB,
                              "max_position_embeddings": tokens},
                    "training": {"precision": precision, "steps": 1, "tokens_per_step": tokens,
                                 "micro_batch_tokens": tokens, "validation_every": 0},
                    "data": {"packing": "streamed"},
                    "memory": {"activation_checkpointing": "block"},
                })
                plan = self.plan(job)["peak_bytes"]["total"]
                beyond = self.most_resident("train", job) - self.most_resident("--help") - plan
                self.assertLess(beyond, BEYOND_THE_LEDGER)

    def most_resident(self, *arguments):
        """Bytes of memory that the program had at most."""
        process = subprocess.Popen(harness.command(list(arguments)), env=harness.environment(),
                                   stdout=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        self.assertEqual(process.returncode, 0)
        return usage.ru_maxrss * 1024

    def test_zero_stages_to_the_byte(self):
        """Every stage at 1 to 4 ranks, where some ranks have a row more than others."""
        for tied, precision, ranks, stage in itertools.product((False, True), ("fp32", "bf16"),
                                                               (1, 2, 3, 4), (0, 1, 2, 3)):
            name = f"zero-{tied}-{precision}-{ranks}-{stage}"
            with self.subTest(name):
                job = self.write(name, {
                    "run": {"threads": 1},
                    "model": {**SHAPES["small"], "tie_word_embeddings": tied},
                    "training": {"precision": precision, "steps": 2, "tokens_per_step": 5 * 64,
                                 "micro_batch_tokens": 64},
                    "parallel": {"zero_stage": stage},
                    "memory": {"activation_checkpointing": CHECKPOINTING[ranks % 3]},
                })
                plan = self.plan(job, ranks)
                run("train", job, ranks=ranks)
                self.assert_planned(name, plan)

    def test_every_optimizer_to_the_byte(self):
        optimizers = [{"name": "adamw", "moments": "bf16"}, {"name": "adamw_8bit"},
                      {"name": "galore", "galore": {"rank": 16, "interval": 2}},
                      {"name": "blockllm", "blockllm": {"active": 0.2, "interval": 1}},
                      {"name": "mezo"}, {"name": "lozo"}]
        for optimizer, precision, (ranks, stage) in itertools.product(
                optimizers, ("fp32", "bf16"), ((1, 1), (3, 0), (2, 2), (3, 3))):
            if optimizer["name"] == "galore" and ranks > 1 and stage > 0:
                continue
            name = f"optimizer-{optimizer['name']}-{precision}-{ranks}-{stage}"
            with self.subTest(name):
                job = self.write(name, {
                    "run": {"threads": 1},
                    "model": SHAPES["small"],
                    "optimizer": {"learning_rate": 1e-3, **optimizer},
                    "training": {"precision": precision, "steps": 3, "tokens_per_step": 5 * 64,
                                 "micro_batch_tokens": 64},
                    "parallel": {"zero_stage": stage},
                })
                plan = self.plan(job, ranks)
                run("train", job, ranks=ranks)
                self.assert_planned(name, plan)

    def test_moments_of_fewer_bits_take_fewer_bytes(self):
        job = self.write("moments", {"model": {**SHAPES["small"], "vocab_size": 4096}})
        full = self.plan(job)["peak_bytes"]["optimizer"]
        halves = self.plan(job, 1, "--set", "optimizer.moments=bf16")["peak_bytes"]["optimizer"]
        blocks = self.plan(job, 1, "--set", "optimizer.name=adamw_8bit")["peak_bytes"]["optimizer"]
        self.assertAlmostEqual(halves / full, 0.5, delta=0.01)
        self.assertLess(blocks / full, 0.3)
        self.assertGreater(blocks / full, (2 + 8 / 256) / 8)

    def test_zero_traffic_of_a_large_world(self):
        """Against formulas, with more ranks than some units have pieces."""
        ranks, rows, element = 1024, 1536, 2  # bf16; gradients 4
        for tied in (False, True):
            sizes = SHAPES["small"]
            hidden, inner, layers = (sizes[key] for key in
                                     ("hidden_size", "intermediate_size", "num_hidden_layers"))
            head_dim = hidden // sizes["num_attention_heads"]
            kv = sizes["num_key_value_heads"] * head_dim
            block = 2 * hidden + hidden * (2 * hidden + 2 * kv) + 3 * hidden * inner
            embedding = VOCAB * hidden
            # Units, and how often a pass gathers and shares each.
            units = [(embedding, 2 if tied else 1, 2 if tied else 1)] + [(block, 2, 1)] * layers
            units += [(hidden if tied else hidden + embedding, 1, 1)]
            passes = 2
            job = self.write(f"large-{tied}", {
                "model": {**sizes, "tie_word_embeddings": tied},
                "training": {"precision": "bf16", "tokens_per_step": rows * 64,
                             "micro_batch_tokens": 64}})
            # Summed over ranks, pieces are the whole: each goes to all others, once each way.
            everything = sum(unit for unit, _, _ in units) * (ranks - 1)
            gathered = sum(unit * gathers for unit, gathers, _ in units) * (ranks - 1)
            shared = sum(unit * shares for unit, _, shares in units) * (ranks - 1)
            expected = [(8 * everything, 0, 0), (0, 4 * everything, element * everything),
                        (0, 4 * passes * shared, element * everything),
                        (0, 4 * passes * shared, element * passes * gathered)]
            for stage, (all_reduce, reduce_scatter, all_gather) in enumerate(expected):
                sent = self.plan(job, ranks, "--set", f"parallel.zero_stage={stage}")["comm_bytes"]
                self.assertEqual(sent["all_reduce"], all_reduce)
                self.assertEqual(sent["reduce_scatter"], reduce_scatter)
                self.assertEqual(sent["all_gather"], all_gather)

    def test_offloaded_state_is_on_the_host(self):
        job = self.write("offloaded", {
            "run": {"device_profile": "h200"},
            "training": {"precision": "bf16", "tokens_per_step": 4 * 128}})
        host = ["--set", "optimizer.offload=host"]
        for ranks in (1, 4):
            plain, offloaded = self.plan(job, ranks), self.plan(job, ranks, *host)
            self.assertEqual(plain["host_bytes"], 0)
            self.assertEqual(plain["seconds"]["host_link"], 0)
            self.assertEqual(offloaded["peak_bytes"]["optimizer"], 0)
            for tag in ("weights", "gradients", "saved", "workspace"):
                self.assertEqual(offloaded["peak_bytes"][tag], plain["peak_bytes"][tag])
            self.assertEqual(offloaded["comm_bytes"], plain["comm_bytes"])
            # Moments and master, and staging of gradients and weights; in several parts also the piece
            # that rank 0 asks for as it saves.
            state = plain["peak_bytes"]["optimizer"]
            self.assertGreater(offloaded["host_bytes"], state)
            self.assertLess(offloaded["host_bytes"], 1.5 * state + 256 + (2**20 if ranks > 1 else 0))
            # Gradients come down, weights go up: 6 bytes an element of this rank.
            least = 6 * plain["parameters"] / ranks / 50e9
            self.assertGreaterEqual(offloaded["seconds"]["host_link"], least)
        self.assertIn("Host:", run("plan", job, *host).stdout)
        self.assertIn("optimizer.offload", run("plan", job, *host, "--device", "cpu", expect=2).stderr)

    def test_offloaded_checkpoints_leave_two_on_the_device(self):
        job = self.write("parked", {
            "run": {"device_profile": "h200"},
            "training": {"precision": "bf16", "tokens_per_step": 4096, "micro_batch_tokens": 4096},
            "model": {**SHAPES["small"], "num_hidden_layers": 24, "max_position_embeddings": 4096},
            "memory": {"activation_checkpointing": "block"}})
        host = ["--set", "memory.saved_inputs.block_input=host"]
        kept, parked = self.plan(job), self.plan(job, 1, *host)
        inputs = 4096 * SHAPES["small"]["hidden_size"] * 2  # of one block
        # All 24 wait on the host; on the device are the one in use and those that go or come.
        self.assertEqual(parked["host_bytes"], 24 * inputs)
        self.assertLessEqual(parked["peak_bytes"]["saved"],
                             kept["peak_bytes"]["saved"] - 20 * inputs)
        self.assertEqual(parked["peak_bytes"]["workspace"], kept["peak_bytes"]["workspace"])
        self.assertIn("memory.saved_inputs has \"host\"",
                      run("plan", job, *host, "--device", "cpu", expect=2).stderr)

    def test_slots_on_the_host_do_not_add_up_over_layers(self):
        """At 64K tokens what is kept takes as much of the device with 24 layers as with 8."""
        def saved(layers, word):
            slots = ("block_input", "block_middle", "attention_qkv", "attention_output", "mlp_up")
            job = self.write(f"host-{layers}-{word}", {
                "run": {"device_profile": "h200"},
                "training": {"precision": "bf16", "tokens_per_step": 65536, "micro_batch_tokens": 65536},
                "model": {**SHAPES["small"], "num_hidden_layers": layers,
                          "max_position_embeddings": 65536},
                "memory": {"saved_inputs": {slot: word for slot in slots}}})
            return self.plan(job)["peak_bytes"]["saved"]

        # Norms' statistics and log-sum-exps stay: 4 bytes each, two and one for each of 4 heads.
        statistics = 65536 * 4 * (2 + 4)
        self.assertLessEqual(saved(24, "host"), saved(8, "host") + 16 * statistics)
        self.assertLess(saved(24, "host"), 0.4 * saved(24, "full"))
        self.assertLess(saved(24, "int8"), 0.7 * saved(24, "full"))

    def test_communication_of_any_world(self):
        job = self.write("wide", {"training": {"tokens_per_step": 1024 * 128},
                                  "parallel": {"zero_stage": 0}})
        parameters = self.plan(job)["parameters"]
        for ranks in (2, 3, 4, 1000):
            plan = self.plan(job, ranks)
            # Sums of all gradients (and of the gaps that align them) out and back.
            least = 2 * (ranks - 1) * 4 * parameters
            self.assertGreaterEqual(plan["comm_bytes"]["all_reduce"], least)
            self.assertLess(plan["comm_bytes"]["all_reduce"], 1.02 * least)
            self.assertGreater(plan["seconds"]["communication"], 0)
            of_rank = plan["comm_bytes_of_rank"]["all_reduce"]
            self.assertEqual(plan["comm_bytes_per_peer"]["all_reduce"], of_rank // (ranks - 1))
            self.assertAlmostEqual(of_rank * ranks / plan["comm_bytes"]["all_reduce"], 1, delta=0.02)

    def test_the_longest_sequence_is_the_longest(self):
        job = self.write("longest", {"memory": {"limit": "24MiB"}, "run": {"threads": 1}})
        best = self.plan(job, 1, "--max-sequence")
        self.assertTrue(best["fits"])
        tokens = best["micro_batch_tokens"]
        sizes = lambda count: ["--set", f"training.micro_batch_tokens={count}",
                               "--set", f"training.tokens_per_step={count}",
                               "--set", f"model.max_position_embeddings={count}"]
        self.assertTrue(self.plan(job, 1, *sizes(tokens))["fits"])
        self.assertFalse(self.plan(job, 1, *sizes(tokens + 1))["fits"])
        self.assertGreater(tokens, 512)
        # And the real run agrees: one fits, one more is refused, and runs out when forced.
        steps = ["--set", "training.steps=1"]
        run("train", job, *sizes(tokens), *steps, "--set", f"run.output_dir={self.root}/fits")
        refused = run("train", job, *sizes(tokens + 1), *steps, "--set",
                      f"run.output_dir={self.root}/refused", expect=3)
        self.assertIn("will not fit into memory", refused.stderr)
        self.assertIn("--force", refused.stderr)
        self.assertIn("memory.activation_checkpointing", refused.stderr)
        self.assertIn("(fits)", refused.stderr)
        forced = run("train", job, *sizes(tokens + 1), *steps, "--force", "--set",
                     f"run.output_dir={self.root}/forced", expect=3)
        self.assertIn("out of memory in", forced.stderr)

    def test_what_never_fits_is_told_so_however_many_rows_a_step_has(self):
        plan = run("plan", ROOT / "configs/llama3-8b-h200.json", "--device", "cpu", "--set",
                   "memory.limit=1GiB", "--set", "training.micro_batch_tokens=4096", "--set",
                   f"training.tokens_per_step={1 << 17}").stdout
        self.assertIn("IT DOES NOT FIT", plan)
        self.assertIn("training.micro_batch_tokens = 1", plan)

    def test_a_remedy_that_fits_does_fit(self):
        job = self.write("remedy", {"memory": {"limit": "9MiB"}, "run": {"threads": 1},
                                    "model": {"max_position_embeddings": 4096},
                                    "training": {"tokens_per_step": 4096,
                                                 "micro_batch_tokens": 4096}})
        text = run("plan", job).stdout
        self.assertIn("IT DOES NOT FIT", text)
        remedy = [line for line in text.splitlines() if line.endswith("(fits)")][-1]
        settings = []
        for change in remedy.split("  ")[2:]:
            if "micro_batch_tokens" in change:
                size = change.split("micro_batch_tokens = ")[1].split()[0]
                settings += ["--set", f"training.micro_batch_tokens={size}"]
        run("train", job, *settings, "--set", "training.steps=1",
            "--set", "memory.activation_checkpointing=block",
            "--set", "memory.mini_sequence.mlp=16MiB", "--set", "memory.mini_sequence.lm_head=64MiB")

    def test_large_models_and_worlds_take_no_machine(self):
        job = self.write("seventy", {
            "run": {"device_profile": "h100-80gb"},
            "model": {"vocab_size": 128256, "hidden_size": 8192, "intermediate_size": 28672,
                      "num_hidden_layers": 80, "num_attention_heads": 64, "num_key_value_heads": 8,
                      "max_position_embeddings": 131072},
            "training": {"precision": "bf16", "tokens_per_step": 512 * 131072,
                         "micro_batch_tokens": 131072},
            "memory": {"activation_checkpointing": "block"},
        })
        plan = self.plan(job, 512)
        self.assertFalse(plan["fits"])
        self.assertGreater(plan["parameters"], 70e9)
        self.assertGreater(plan["peak_bytes"]["total"], 6e11)

    def test_dry_run_checks_everything_and_trains_nothing(self):
        job = self.write("dry", {})
        text = run("train", job, "--dry-run", ranks=2).stdout
        self.assertIn("Peak:", text)
        self.assertIn("dry run", text)
        self.assertFalse((self.root / "dry" / "metrics.jsonl").exists())
        self.assertFalse(list((self.root / "dry" / "checkpoints").glob("*"))
                         if (self.root / "dry" / "checkpoints").exists() else [])
        missing = self.write("missing", {"data": {"train": [str(self.root / "none.bin")]}})
        self.assertIn("none.bin", run("train", missing, "--dry-run", expect=2).stderr)
        tight = run("train", job, "--dry-run", "--set", "memory.limit=1MiB", expect=3)
        self.assertIn("IT DOES NOT FIT", tight.stdout)

    def test_assumed_states(self):
        job = self.write("assumed", {})
        plan = self.plan(job)
        states = sum(plan["peak_bytes"][tag] for tag in ("weights", "gradients", "optimizer"))
        limit = plan["peak_bytes"]["total"] - states + 2 * plan["parameters"]
        tight = ["--set", f"memory.limit={limit}"]
        self.assertFalse(self.plan(job, 1, *tight)["fits"])
        self.assertTrue(self.plan(job, 1, *tight, "--assume-state-bytes", "2")["fits"])
        self.assertFalse(self.plan(job, 1, *tight, "--assume-state-bytes", "2.1")["fits"])
        self.assertIn("ASSUMED", run("plan", job, "--assume-state-bytes", 2).stdout)

    def test_the_picture_shows_the_peak(self):
        job = self.write("drawn", {})
        picture = self.root / "memory.svg"
        plan = json.loads(run("plan", job, "--json", "--picture", picture).stdout)
        svg = picture.read_text(encoding="utf-8")
        self.assertTrue(svg.startswith("<svg") and svg.endswith("</svg>\n"))
        self.assertIn(f"in {plan['peak_place']}", svg)

    def test_what_a_plan_refuses(self):
        job = self.write("refused-plan", {})
        self.assertIn("legal: a100-80gb, cpu, h100-80gb, h200",
                      run("plan", job, "--device", "h300", expect=2).stderr)
        run("plan", job, "--world-size", "0", expect=2)
        self.assertIn("row(s) a step for 500 groups",
                      run("plan", job, "--world-size", "500", "--set", "parallel.sequence=1",
                          expect=2).stderr)
        self.assertIn("not even one token", run("plan", job, "--max-sequence", "--set",
                                                "memory.limit=1KiB", expect=2).stderr)
        profile = self.root / "profile.json"
        profile.write_text('{"name": "x", "kind": "tpu"}', encoding="utf-8")
        self.assertIn("kind", run("plan", job, "--device", profile, expect=2).stderr)
        self.assertIn("parallel.data is 3", run("plan", job, "--world-size", "4", "--set",
                                                "parallel.data=3", expect=2).stderr)
        for more in ([], ["--force"], ["--dry-run"]):
            refused = run("train", job, *more, "--set", "run.device_profile=h200", expect=2)
            self.assertIn("run.device is \"cpu\"", refused.stderr)


if __name__ == "__main__":
    unittest.main()
