"""Step plans as a user meets them: groups of different sizes in one step, one run whatever stops it."""

import json
import shutil
import unittest

import harness
from harness import run

PLANNERS = ("per_micro_batch", "flexible")


class Planners(harness.Workspace):

    def planned(self, name, planner="flexible", **changes):
        changes.setdefault("parallel", {}).update({"planner": planner})
        return self.job(name, **changes)

    def steps(self, name):
        return [row for row in self.metrics(name, drop=()) if "loss" in row]

    def test_a_run_that_was_stopped_ends_like_one_that_was_not(self):
        for planner in PLANNERS:
            straight, stopped = f"straight-{planner}", f"stopped-{planner}"
            run("train", self.planned(straight, planner), ranks=4)
            job = self.planned(stopped, planner)
            for until in (5, 15, 20):
                run("train", job, "--until-step", until, ranks=4)
            self.assertEqual(self.metrics(straight), self.metrics(stopped))
            first, second = self.checkpoint_files(straight), self.checkpoint_files(stopped)
            for path in first:
                if path.startswith("step-00000020/"):
                    self.assertTrue(first[path] == second[path], path)

    def test_metrics_tell_of_the_plan(self):
        run("train", self.planned("metrics"), ranks=4)
        steps = self.steps("metrics")
        self.assertEqual(len(steps), 20)
        for step in steps:
            self.assertGreaterEqual(step["micro_batches"], 1)
            self.assertGreater(step["predicted_seconds"], 0)
            if "plan_gap" in step:
                self.assertGreaterEqual(step["plan_gap"], 0)
                self.assertLess(step["plan_gap"], 1)
            self.assertGreaterEqual(step["planner_wait_seconds"], 0)
        # Steps have as many tokens as the job says on average, and not each as many.
        self.assertGreater(len({step["tokens"] for step in steps}), 1)
        total = sum(step["tokens"] for step in steps)
        self.assertLess(abs(total - 20 * 512), 128)
        run("train", self.job("fixed"), ranks=2)
        for step in self.steps("fixed"):
            self.assertNotIn("planner_wait_seconds", step)

    def test_losses_depend_on_the_plan_in_rounding_alone(self):
        """Documents of a step are the same for every planner and any number of ranks."""
        losses = []
        for planner in PLANNERS:
            for ranks, stage in ((1, 0), (2, 3), (3, 1), (4, 2)):
                name = f"same-{planner}-{ranks}"
                run("train", self.planned(name, planner, parallel={"zero_stage": stage},
                                          training={"steps": 5}), ranks=ranks)
                losses.append(self.losses(name))
        self.assertEqual(sorted(losses[0]), [1, 2, 3, 4, 5])
        for other in losses[1:]:
            for step, loss in losses[0].items():
                self.assertLess(abs(other[step] - loss), 1e-4 * loss)

    def test_a_plan_goes_on_from_another_layout(self):
        run("train", self.planned("moved", "flexible"), "--until-step", 5, ranks=4)
        result = run("train", self.planned("moved", "per_micro_batch"), "--until-step", 8, ranks=2)
        self.assertIn("resumed after step 5", result.stdout)
        # Rows are other samples than documents.
        result = run("train", self.job("moved"), ranks=2, expect=2)
        self.assertIn("single documents", result.stderr)

    def test_what_does_not_go_together_is_refused(self):
        def refuse(name, *words, **changes):
            result = run("train", self.planned(name, **changes), expect=2)
            for word in words:
                self.assertIn(word, result.stderr)

        refuse("sequence", "parallel.sequence", "parallel.planner", parallel={"sequence": 1})
        refuse("data", "parallel.data", "parallel.planner", parallel={"data": 1})
        refuse("streamed", "data.packing", "parallel.planner", data={"packing": "streamed"})
        refuse("tokens", "training.tokens_per_step", training={"tokens_per_step": 127})
        refuse("costs", "no-such-file", parallel={"costs": "no-such-file.json"})
        result = run("train", self.job("fixed-costs", parallel={"costs": "x.json"}), expect=2)
        self.assertIn("parallel.costs", result.stderr)

    def test_costs_of_a_file(self):
        kinds = [{"degree": degree, "fixed_seconds": 1e-3, "seconds_per_token": 1e-5,
                  "seconds_per_token_squared": 0, "max_tokens": room}
                 for degree, room in ((1, 40), (2, 80), (4, 128))]
        costs = {"ranks": 4, "micro_batch_seconds": 1e-3, "kinds": kinds}
        path = self.root / "costs.json"
        path.write_text(json.dumps(costs), encoding="utf-8")
        job = self.planned("costs-file", parallel={"costs": str(path)}, training={"steps": 3})
        run("train", job, ranks=4)
        self.assertEqual(len(self.steps("costs-file")), 3)
        result = run("train", job, ranks=2, expect=2)
        self.assertIn("for 4 rank(s), but there are 2", result.stderr)
        kinds[2]["max_tokens"] = 127
        path.write_text(json.dumps(costs), encoding="utf-8")
        shutil.rmtree(self.root / "costs-file")
        result = run("train", job, ranks=4, expect=2)
        self.assertIn("training.micro_batch_tokens is 128", result.stderr)
        for level in ("blok", "auto"):
            kinds[2].update(max_tokens=128, level=level)
            path.write_text(json.dumps(costs), encoding="utf-8")
            result = run("train", job, ranks=4, expect=2)
            self.assertIn("the level of kind 2 is none", result.stderr)
            self.assertIn("memory.activation_checkpointing", result.stderr)

    def test_no_plan_takes_more_memory_than_there_is(self):
        """What the ledger of a run says stays below a limit that little more than a document fits."""
        job = self.planned("tight", training={"steps": 12})
        peak = json.loads(run("plan", job, "--world-size", 4, "--json").stdout)["peak_bytes"]["total"]
        limit = peak + peak // 32
        tight = ("--set", f"memory.limit={limit}")
        path = self.root / "tight.json"
        run("plan", job, "--world-size", 4, "--costs-out", path, *tight)
        rooms = {kind["degree"]: kind["max_tokens"]
                 for kind in json.loads(path.read_text(encoding="utf-8"))["kinds"]}
        self.assertLess(rooms[1], 128)
        self.assertGreaterEqual(rooms[4], 128)
        for planner in PLANNERS:
            name = f"tight-{planner}"
            run("train", self.planned(name, planner, training={"steps": 12}), *tight, ranks=4)
            steps = self.steps(name)
            self.assertEqual(len(steps), 12)
            for step in steps:
                self.assertLessEqual(step["peak_bytes"]["total"], limit)
            # Memory decides how the documents are dealt out, not only whether they can be.
            self.assertGreater(max(step["micro_batches"] for step in steps), 1)

    def test_groups_keep_what_their_kind_says(self):
        """The same losses whatever is kept: of a cost file's levels, and of what "auto" chooses."""
        losses = []
        path = self.root / "levels.json"
        for name, level in (("own", ""), ("block", "block"), ("attention", "block_keep_attention")):
            kinds = [{"degree": degree, "level": level, "fixed_seconds": 1e-3,
                      "seconds_per_token": 1e-5 / degree, "seconds_per_token_squared": 0,
                      "max_tokens": 64 * degree} for degree in (1, 2, 4)]
            path.write_text(json.dumps({"ranks": 4, "micro_batch_seconds": 0, "kinds": kinds}),
                            encoding="utf-8")
            job = self.planned(f"levels-{name}", parallel={"costs": str(path)},
                               training={"steps": 3})
            run("train", job, ranks=4)
            losses.append([step["loss"] for step in self.steps(f"levels-{name}")])
        self.assertEqual(losses[0], losses[1])
        self.assertEqual(losses[0], losses[2])
        auto = self.planned("levels-auto", memory={"activation_checkpointing": "auto"},
                            training={"steps": 3})
        run("train", auto, ranks=4)
        for found, expected in zip([step["loss"] for step in self.steps("levels-auto")], losses[0],
                                   strict=True):
            self.assertAlmostEqual(found, expected, delta=1e-5 * expected)
        run("plan", auto, "--world-size", 4, "--costs-out", path)
        kinds = json.loads(path.read_text(encoding="utf-8"))["kinds"]
        self.assertEqual({(kind["degree"], kind["level"]) for kind in kinds},
                         {(degree, level) for degree in (1, 2, 4)
                          for level in ("none", "block", "block_keep_attention")})
        fixed = self.job("levels-fixed", memory={"activation_checkpointing": "auto"})
        result = run("train", fixed, expect=2)
        self.assertIn("memory.activation_checkpointing is \"auto\"", result.stderr)


if __name__ == "__main__":
    unittest.main()
