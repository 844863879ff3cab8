"""What groups of ranks cost, predicted and measured, as files that runs are planned by."""

import json
import unittest

import harness
from harness import run


class Costs(harness.Workspace):

    def planned(self, name, costs, **changes):
        changes.setdefault("parallel", {}).update({"planner": "flexible", "costs": str(costs)})
        return self.job(name, **changes)

    def check_kinds(self, costs, ranks, degrees):
        self.assertEqual(costs["ranks"], ranks)
        self.assertEqual([kind["degree"] for kind in costs["kinds"]], degrees)
        for kind in costs["kinds"]:
            self.assertGreater(kind["max_tokens"], 0)
            self.assertGreater(kind["fixed_seconds"] + kind["seconds_per_token"] +
                               kind["seconds_per_token_squared"], 0)

    def test_measured_costs_are_what_a_run_is_planned_by(self):
        path = self.root / "costs-measured.json"
        job = self.planned("measured", path)
        result = run("bench", "profile-cost", job, "-o", path, "--repeats", 2, ranks=2)
        self.assertEqual(json.loads(result.stdout.splitlines()[-1])["ranks"], 2)
        costs = json.loads(path.read_text(encoding="utf-8"))
        self.check_kinds(costs, 2, [1, 2])
        self.assertIn("measured", costs["source"])
        run("train", job, ranks=2)
        steps = [row for row in self.metrics("measured", drop=()) if "loss" in row]
        self.assertEqual(len(steps), 20)
        for step in steps:
            self.assertGreater(step["predicted_seconds"], 0)
        result = run("train", self.planned("others", path), ranks=4, expect=2)
        self.assertIn("for 2 rank(s), but there are 4", result.stderr)

    def test_predicted_costs_are_a_plans(self):
        path = self.root / "costs-predicted.json"
        job = self.job("predicted")
        text = run("plan", job, "--world-size", 4, "--costs-out", path).stdout
        self.assertIn("most tokens", text)
        costs = json.loads(path.read_text(encoding="utf-8"))
        self.check_kinds(costs, 4, [1, 2, 4])
        run("train", self.planned("by-prediction", path), "--until-step", 3, ranks=4)
        levels = ["--costs-level", "none", "--costs-level", "block"]
        run("plan", job, "--world-size", 2, "--costs-out", path, "--json", *levels)
        costs = json.loads(path.read_text(encoding="utf-8"))
        self.assertEqual([kind["level"] for kind in costs["kinds"]], ["none"] * 2 + ["block"] * 2)

    def test_what_is_no_level_or_place_is_refused(self):
        job, path = self.job("refused"), self.root / "costs-refused.json"
        for arguments in (["--costs-out", path, "--costs-level", "some"], ["--costs-level", "block"],
                          ["--costs-out", self.root / "nowhere" / "costs.json"]):
            run("plan", job, "--world-size", 2, *arguments, expect=2)
        run("bench", "profile-cost", job, "-o", self.root / "nowhere" / "costs.json", "--repeats", 1,
            "--tokens", 16, ranks=2, expect=2)
        run("bench", "profile-cost", job, ranks=0, expect=2)
        self.assertFalse(path.exists())


if __name__ == "__main__":
    unittest.main()
