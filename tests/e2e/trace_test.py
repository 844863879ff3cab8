"""train --trace: a file that a viewer reads, and a run that does the same as without."""

import signal
import unittest

import harness
from harness import run, start
from traces import Trace

COLLECTIVES = {"all_reduce", "reduce_scatter", "all_gather", "all_to_all", "send_receive"}


class Traces(harness.Workspace):

    def traced(self, name, *options, ranks=0, **changes):
        """Trains with a trace; returns it (None where there is no file), and what was said."""
        path = self.root / f"{name}.trace.json"
        said = run("train", self.job(name, **changes), "--trace", path, *options, ranks=ranks).stdout
        self.assertEqual(f"in {path}; open it in https://ui.perfetto.dev" in said, path.exists())
        return Trace(path) if path.exists() else None, said

    def compare(self, name, ranks, expected, **changes):
        """A run with and one without a trace do the same; every rank's collectives are `expected`."""
        sections = {**changes, "training": {"steps": 6}}
        run("train", self.job(f"{name}-plain", **sections), ranks=ranks)
        trace, said = self.traced(name, "--trace-steps", 3, ranks=ranks, **sections)
        self.assertIn(f"trace: steps 2 to 4 of {ranks} rank", said)
        self.assert_same_run(f"{name}-plain", name)
        trace.check(self)
        self.assertEqual(trace.processes, {rank: f"rank {rank}" for rank in range(ranks)})
        for rank in range(ranks):
            self.assertEqual(trace.steps(rank), ["step 2", "step 3", "step 4"])
            self.assertLessEqual({"forward", "block 0", "attention", "mlp", "block 1", "loss", "backward",
                                  "reduction", "optimizer"}, trace.names(rank, "places of the step"))
            self.assertIn("attention_forward", trace.within(rank, "forward"))
            self.assertIn("attention_backward", trace.within(rank, "backward"))
            self.assertIn("cross_entropy", trace.within(rank, "loss"))
            self.assertIn("adamw", trace.within(rank, "optimizer"))
            self.assertNotIn("adamw", trace.within(rank, "backward"))
            self.assertEqual(expected, trace.names(rank, "communication") & COLLECTIVES)
            for event in trace.row(rank, "communication"):
                self.assertEqual(event["args"]["ranks"], ranks)
                self.assertGreater(event["args"]["bytes"], 0)
        return trace

    def test_ulysses_and_zero(self):
        trace = self.compare("ulysses", 2, {"all_gather", "reduce_scatter", "all_to_all"},
                             parallel={"sequence": 2, "zero_stage": 3})
        exchange = next(event for event in trace.row(0, "communication") if event["name"] == "all_to_all")
        self.assertEqual(exchange["args"]["group"], "Ulysses")
        self.assertRegex(exchange["args"]["tensor"], r"^float32 \[\d+\]$")

    def test_ring(self):
        self.compare("ring", 2, {"all_reduce", "send_receive"},
                     parallel={"sequence": "1x2", "zero_stage": 0})

    def test_as_many_steps_as_there_are(self):
        for steps, told, expected in ((1, "step 1 of 1 rank in", ["step 1"]),
                                      (2, "step 2 of 1 rank in", ["step 2"]),
                                      (3, "steps 2 to 3 of 1 rank in", ["step 2", "step 3"])):
            with self.subTest(steps):
                trace, said = self.traced(f"short-{steps}", training={"steps": steps},
                                          schedule={"warmup_steps": 0})
                self.assertIn(f"trace: {told}", said)
                self.assertEqual(trace.steps(0), expected)
                trace.check(self)

    def test_after_a_resume_its_first_step_warms_up(self):
        self.traced("resumed", "--until-step", 2)
        trace, _ = self.traced("resumed", "--trace-steps", 1, "--until-step", 5)
        self.assertEqual(trace.steps(0), ["step 4"])
        (self.root / "resumed.trace.json").unlink()
        trace, said = self.traced("resumed", "--until-step", 5)
        self.assertIsNone(trace)
        self.assertIn("nothing to do and to trace: 5 of 5 steps are done", said)

    def test_a_run_that_is_stopped_writes_what_it_has(self):
        path = self.root / "stopped.trace.json"
        steps = 1000000
        job = self.job("stopped", training={"steps": steps}, logging={"every": 1})
        process = start("train", job, "--trace", path, "--trace-steps", steps)
        for line in process.stdout:
            if line.startswith("step      3/"):
                break
        process.send_signal(signal.SIGUSR1)
        said = process.communicate()[0]
        self.assertEqual(process.returncode, 75)
        self.assertIn("trace: steps 2 to", said)
        trace = Trace(path)
        self.assertEqual(trace.steps(0)[:2], ["step 2", "step 3"])
        trace.check(self)


if __name__ == "__main__":
    unittest.main()
