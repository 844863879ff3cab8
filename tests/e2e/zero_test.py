"""ZeRO as a user meets it: layouts change at every resume, and a killed save leaves whole checkpoints."""

import os
import pathlib
import random
import shutil
import signal
import time
import unittest

import harness
from harness import run, start

STAGES = (0, 1, 2, 3)


def ranks_of(process):
    """The processes that an mpirun has started."""
    children = []
    for entry in pathlib.Path("/proc").iterdir():
        try:
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
        except (OSError, IndexError):
            continue
        if entry.name.isdigit() and int(fields[1]) == process.pid:
            children.append(int(entry.name))
    return children


class Layouts(harness.Workspace):

    def layout(self, name, stage, precision, **training):
        return self.job(name, parallel={"zero_stage": stage}, checkpoint={"every": 0, "keep_last": 0},
                        training={"precision": precision, "tokens_per_step": 640,
                                  "validation_every": 0, **training})

    def test_any_layout_goes_on_from_a_checkpoint_of_four_ranks(self):
        for precision, saved_at in (("fp32", 3), ("bf16", 2)):
            origin = f"origin-{precision}"
            run("train", self.layout(origin, saved_at, precision), "--until-step", 3, ranks=4)
            for ranks in (1, 2, 3, 4):
                losses = set()
                for stage in STAGES:
                    straight = self.go_on(origin, "straight", ranks, stage, precision, (5,))
                    losses.add(self.losses(straight)[4])
                    if stage == ranks % 4:  # each rank count with a stage of its own
                        stops = self.go_on(origin, "stops", ranks, stage, precision, (4, 5))
                        self.assert_same_end(straight, stops)
                # The same weights on the same ranks: the forward does not know the stage.
                self.assertEqual(len(losses), 1, (precision, ranks, losses))

    def go_on(self, origin, how, ranks, stage, precision, stops):
        name = f"{origin}-{ranks}-{stage}-{how}"
        shutil.copytree(self.root / origin, self.root / name)
        job = self.layout(name, stage, precision)
        for until in stops:
            result = run("train", job, "--until-step", until, ranks=ranks)
            self.assertIn("resumed after step", result.stdout)
        return name

    def assert_same_end(self, straight, stops):
        self.assertEqual(self.losses(straight), self.losses(stops))
        first, second = self.checkpoint_files(straight), self.checkpoint_files(stops)
        last = [path for path in first if path.startswith("step-00000005/")]
        self.assertGreaterEqual(len(last), 6)
        for path in last:
            self.assertTrue(first[path] == second[path], f"{path} of {straight} and {stops}")

    def test_validation_is_the_same_at_every_stage(self):
        """With rows that do not divide by the ranks: every rank runs as many passes as any."""
        found = set()
        for stage in STAGES:
            name = f"validated-{stage}"
            run("train", self.job(name, parallel={"zero_stage": stage},
                                  schedule={"warmup_steps": 0},
                                  training={"steps": 1, "validation_tokens": 128 * 4 + 1}), ranks=3)
            found |= {row["validation_loss"] for row in self.metrics(name) if "validation_loss" in row}
        self.assertLessEqual(max(found) - min(found), 1e-6 * max(found))

    def test_ranks_killed_while_saving_leave_whole_checkpoints(self):
        job = self.job("killed", parallel={"zero_stage": 3},
                       training={"validation_every": 0, "steps": 100000},
                       checkpoint={"every": 1, "keep_last": 2})
        draw = random.Random(13)
        newest = 0
        for kill in range(8):
            process = start("train", job, ranks=3)
            deadline = time.monotonic() + 60
            directory = self.root / "killed" / "checkpoints"
            while time.monotonic() < deadline:  # it saves all the time: wait for the first
                if [step for step in directory.glob("step-*") if int(step.name[5:]) > newest]:
                    break
                time.sleep(0.005)
            time.sleep(draw.uniform(0, 0.05))
            victims = ranks_of(process)
            self.assertEqual(len(victims), 3)
            os.kill(victims[kill % 3], signal.SIGKILL)
            process.communicate(timeout=60)
            self.assertNotEqual(process.returncode, 0)
            steps = sorted(directory.glob("step-*"))
            found = int(steps[-1].name[5:])
            self.assertGreater(found, newest)
            newest = found
        result = run("train", job, "--until-step", newest + 1, ranks=4)
        self.assertIn(f"resumed after step {newest}", result.stdout)


if __name__ == "__main__":
    unittest.main()
