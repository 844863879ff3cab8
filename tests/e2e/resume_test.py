"""Runs that are repeated, resumed, stopped and killed give what an undisturbed run gives."""

import random
import signal
import time
import unittest

import harness
from harness import run, start


class Resume(harness.Workspace):

    def test_two_runs_of_one_job_are_identical(self):
        for ranks in (0, 2):
            for name in (f"first-{ranks}", f"second-{ranks}"):
                run("train", self.job(name), ranks=ranks, threads=2)
            self.assert_same_run(f"first-{ranks}", f"second-{ranks}")

    def test_resumed_run_equals_straight_run(self):
        for precision in ("fp32", "bf16"):
            straight, resumed = f"straight-{precision}", f"resumed-{precision}"
            run("train", self.job(straight, training={"precision": precision}))
            job = self.job(resumed, training={"precision": precision})
            for until in (10, 13):
                run("train", job, "--until-step", until)
            result = run("train", job)
            self.assertIn("resumed after step 13", result.stdout)
            # Saved at 13 as well: of the kept checkpoints only the last is a step of both runs.
            first, second = self.checkpoint_files(straight), self.checkpoint_files(resumed)
            last = [path for path in first if path.startswith("step-00000020/")]
            self.assertGreaterEqual(len(last), 6)
            for path in last:
                self.assertTrue(first[path] == second[path], f"{path} differs")
            steps = [row for row in self.metrics(straight) if "loss" in row]
            self.assertEqual(steps, [row for row in self.metrics(resumed) if "loss" in row])

    def test_every_optimizer_resumes_where_it_was(self):
        for number, optimizer in enumerate((
                {"moments": "bf16"}, {"name": "adamw_8bit"},
                {"name": "galore", "galore": {"rank": 8, "interval": 4}},
                {"name": "blockllm", "blockllm": {"active": 0.3, "interval": 5, "patience": 3}},
                {"name": "mezo", "learning_rate": 1e-3},
                {"name": "lozo", "learning_rate": 1e-3, "zeroth_order": {"interval": 5}})):
            straight, resumed = f"straight-optimizer-{number}", f"resumed-optimizer-{number}"
            # In fp32 MeZO has no state at all.
            precision = "fp32" if optimizer.get("name") == "mezo" else "bf16"
            settings = {"optimizer": {"learning_rate": 3e-3, **optimizer},
                        "training": {"precision": precision, "validation_every": 0}}
            run("train", self.job(straight, **settings))
            job = self.job(resumed, **settings)
            for until in (7, 13):
                run("train", job, "--until-step", until)
            run("train", job)
            first, second = self.checkpoint_files(straight), self.checkpoint_files(resumed)
            last = [path for path in first if path.startswith("step-00000020/")]
            self.assertGreaterEqual(len(last), 5 if precision == "fp32" else 6)
            for path in last:
                self.assertTrue(first[path] == second[path], f"{path} differs")
            losses = list(self.losses(straight).values())
            if optimizer.get("name") not in ("mezo", "lozo"):  # 20 slopes show little
                self.assertLess(losses[-1], losses[0])

    def test_an_optimizer_that_needs_whole_matrices_says_so(self):
        job = self.job("whole", optimizer={"learning_rate": 3e-3, "name": "galore",
                                           "galore": {"rank": 8}})
        for command in ("train", "plan"):
            arguments = ("--world-size", 2) if command == "plan" else ()
            refused = run(command, job, *arguments, ranks=2 if command == "train" else 0, expect=2)
            for word in ("parallel.zero_stage is 1", "galore", "legal: 0"):
                self.assertIn(word, refused.stderr)
        run("train", job, "--set", "parallel.zero_stage=0", ranks=2)

    def test_ranks_may_change_at_every_resume(self):
        run("train", self.job("one-rank"))
        job = self.job("many-ranks")
        for until, ranks in ((4, 1), (9, 2), (14, 4), (17, 3), (20, 1)):
            run("train", job, "--until-step", until, ranks=ranks)
        alone = [row for row in self.metrics("one-rank") if "loss" in row]
        mixed = [row for row in self.metrics("many-ranks") if "loss" in row]
        self.assertEqual([row["step"] for row in mixed], list(range(1, 21)))
        for expected, found in zip(alone, mixed):
            # The same documents in every step: token counts agree exactly, losses to rounding.
            self.assertEqual(expected["tokens"], found["tokens"])
            self.assertAlmostEqual(expected["loss"], found["loss"], delta=1e-4 * expected["loss"])
            self.assertAlmostEqual(expected["grad_norm"], found["grad_norm"],
                                   delta=1e-3 * expected["grad_norm"])

    def test_codes_rounded_at_random_are_of_the_tokens_not_the_ranks(self):
        saved = {"saved_inputs": {"block_input": "int8", "attention_qkv": "int8",
                                  "attention_output": "int8", "rounding": "stochastic"}}
        settings = {"training": {"precision": "fp64", "steps": 4}, "memory": saved}
        losses = {}
        for name, ranks, more in (("alone", 1, {}), ("data", 2, {}),
                                  ("ulysses", 2, {"parallel": {"sequence": "2x1"}}),
                                  ("ring", 2, {"parallel": {"sequence": "1x2"}})):
            run("train", self.job(f"codes-{name}", **settings, **more), ranks=ranks)
            losses[name] = self.losses(f"codes-{name}")
            for step, loss in losses[name].items():
                self.assertAlmostEqual(loss, losses["alone"][step], delta=1e-9)
        # They are other codes than the nearest.
        run("train", self.job("codes-nearest", **settings), "--set",
            "memory.saved_inputs.rounding=nearest")
        self.assertGreater(abs(self.losses("codes-nearest")[4] - losses["alone"][4]), 1e-7)

    def test_finished_run_is_left_alone(self):
        job = self.job("finished")
        run("train", job)
        before = self.checkpoint_files("finished")
        self.assertIn("nothing to do", run("train", job).stdout)
        self.assertEqual(before, self.checkpoint_files("finished"))

    def test_a_run_that_began_elsewhere_goes_on_with_its_own(self):
        run("train", self.job("source", checkpoint={"every": 4, "keep_last": 0}), "--until-step", 8)
        job = self.job("branch", checkpoint={
            "resume": str(self.root / "source/checkpoints/step-00000004")})
        self.assertIn("resumed after step 4", run("train", job, "--until-step", 6).stdout)
        # The same command again, as a queue starts it.
        again = run("train", job, "--until-step", 9).stdout
        self.assertIn("resumed after step 6", again)
        self.assertIn("not from", again)
        self.assertEqual(sorted(self.losses("branch")), [5, 6, 7, 8, 9])

    def test_going_back_is_not_undone_by_the_next_start(self):
        job = self.job("back", checkpoint={"every": 4, "keep_last": 0})
        run("train", job, "--until-step", 8)
        steps = self.root / "back/checkpoints"
        back = self.job("back", checkpoint={"resume": str(steps / "step-00000004")})
        refused = run("train", back, expect=2).stderr
        for word in ("step 4", "step 8", "move those away"):
            self.assertIn(word, refused)
        (steps / "step-00000008").rename(self.root / "step-00000008")
        job = self.job("back", checkpoint={"every": 4, "keep_last": 0})
        self.assertIn("resumed after step 4", run("train", job, "--until-step", 5).stdout)
        self.assertIn("resumed after step 5", run("train", job, "--until-step", 6).stdout)

    def test_files_in_another_order_are_other_samples(self):
        other = self.root / "other.jsonl"
        other.write_text("".join(self.corpus.read_text(encoding="utf-8").splitlines(True)[:50]),
                         encoding="utf-8")
        tokens = self.root / "other.tokens"
        run("tokenize", other, "--output", tokens, "--tokenizer", "bytes")
        files = [str(self.tokens), str(tokens)]
        run("train", self.job("order", data={"train": files}), "--until-step", 2)
        swapped = self.job("order", data={"train": files[::-1]})
        self.assertIn("other samples", run("train", swapped, expect=2).stderr)
        run("train", self.job("order", data={"train": files}), "--until-step", 3)

    def test_signal_saves_and_leaves_with_75(self):
        for ranks, number in ((0, signal.SIGUSR1), (0, signal.SIGTERM), (2, signal.SIGUSR1)):
            name = f"signal-{ranks}-{number.name}"
            job = self.job(name, training={"steps": 100000, "validation_every": 0},
                           checkpoint={"every": 0}, logging={"every": 1})
            process = start("train", job, ranks=ranks)
            while not process.stdout.readline().startswith("step "):
                self.assertIsNone(process.poll())
            process.send_signal(number)
            output, errors = process.communicate()
            self.assertEqual(process.returncode, 75, output + errors)
            done = max(self.losses(name))
            result = run("train", job, "--until-step", done + 2)
            self.assertIn(f"resumed after step {done}", result.stdout)
            self.assertEqual(sorted(self.losses(name)), list(range(1, done + 3)))

    def test_killed_runs_resume(self):
        run("train", self.job("undisturbed", training={"validation_every": 0}))
        job = self.job("killed", training={"validation_every": 0},
                       checkpoint={"every": 1, "keep_last": 2})
        draw = random.Random(11)
        kills = 0
        newest = 0
        while kills < 30:
            # A few steps at a time, killed at a random moment: most of it is spent saving.
            until = min(newest + 1 + kills % 2, 19)
            process = start("train", job, "--until-step", until if until > newest else 20)
            time.sleep(draw.uniform(0.02, 0.3))
            process.kill()
            process.communicate()
            kills += 1
            steps = sorted((self.root / "killed" / "checkpoints").glob("step-*"))
            if steps:
                found = int(steps[-1].name.split("-")[1])
                self.assertGreaterEqual(found, newest)
                newest = found
        self.assertGreater(newest, 2, "no kill came after a checkpoint")
        run("train", job)
        self.assertEqual(self.losses("killed"), self.losses("undisturbed"))
        first, second = self.checkpoint_files("undisturbed"), self.checkpoint_files("killed")
        for path in (path for path in first if path.startswith("step-00000020/")):
            self.assertTrue(first[path] == second[path], f"{path} differs")


class Output(harness.Workspace):

    def test_what_a_run_leaves(self):
        run("train", self.job("outputs"))
        directory = self.root / "outputs"
        for name in ("job.json", "metrics.jsonl", "loss.svg", "checkpoints/latest"):
            self.assertTrue((directory / name).is_file(), name)
        self.assertTrue(list(directory.glob("events.out.tfevents.*")))
        self.assertEqual((directory / "checkpoints/latest").read_text().strip(),
                         "step-00000020")
        rows = self.metrics("outputs", drop=())
        steps = [row for row in rows if "loss" in row]
        self.assertEqual(list(steps[0]),
                         ["step", "tokens", "loss", "grad_norm", "lr", "step_seconds",
                          "tokens_per_second", "model_flops_utilization", "peak_bytes",
                          "comm_bytes", "skipped"])
        validation = [row for row in rows if "validation_loss" in row]
        self.assertEqual([row["step"] for row in validation], [5, 10, 15, 20])
        self.assertLess(validation[-1]["validation_loss"], validation[0]["validation_loss"])
        self.assertLess(steps[-1]["loss"], 0.8 * steps[0]["loss"])
        # The resolved job runs as it is and is the same job.
        again = run("train", directory / "job.json")
        self.assertIn("nothing to do", again.stdout)

    def test_generation_is_a_function_of_its_seed(self):
        run("train", self.job("talks"))
        arguments = ("generate", self.root / "talks", "--prompt", "in the ", "--max-tokens", 40)
        first = run(*arguments, "--seed", 1).stdout
        self.assertTrue(first.startswith("in the "))
        self.assertEqual(first, run(*arguments, "--seed", 1).stdout)
        self.assertNotEqual(first, run(*arguments, "--seed", 2).stdout)
        greedy = run(*arguments, "--temperature", 0, "--seed", 1).stdout
        self.assertEqual(greedy, run(*arguments, "--temperature", 0, "--seed", 2).stdout)

    def test_streamed_and_packed_megatron_and_sentencepiece(self):
        model = self.root / "small.model"
        tokens = self.root / "pieces.tokens"
        run("tokenize", self.corpus, "--output", tokens, "--train-vocab", 300, "--model-out",
            model)
        run("train", self.job("streamed", data={"train": [str(tokens)], "packing": "streamed",
                                                "tokenizer": str(model)},
                              model={"vocab_size": 300}))
        prefix = self.root / "megatron"
        run("tokenize", self.corpus, "--output", prefix, "--format", "megatron")
        run("train", self.job("from-megatron", data={"train": [str(prefix) + ".bin"]}))
        for name in ("streamed", "from-megatron"):
            losses = self.losses(name)
            self.assertLess(losses[20], losses[1])

    def test_a_poisoned_step_is_skipped_by_all_ranks(self):
        # A learning rate that overflows the weights makes every later step not finite.
        job = self.job("overflow", optimizer={"learning_rate": 1e38, "weight_decay": 0.0},
                       schedule={"name": "constant", "warmup_steps": 0},
                       training={"max_skipped_steps": 3, "validation_every": 0})
        result = run("train", job, ranks=2, expect=1)
        self.assertIn("not finite for 3 steps in a row", result.stderr)
        self.assertEqual(result.stderr.count("training stops"), 1)
        rows = self.metrics("overflow")
        self.assertEqual(rows[-1]["skipped"], 3)


if __name__ == "__main__":
    unittest.main()
