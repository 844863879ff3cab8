"""A rank that is killed, stopped or fails alone ends the job, tells why once, and leaves nothing behind."""

import os
import pathlib
import re
import signal
import subprocess
import time
import unittest

import harness
from harness import LONGSPAN, MPIRUN, run

OUT_OF_MEMORY, PEER_FAILED = 3, 4
RANKS = 4
TIMEOUT = 5  # seconds, of the job that is struck
UNDISTURBED = ("--set", "parallel.timeout_seconds=600")
GUARD = 180  # seconds until a test that hangs is ended


def alive(pid):
    """Neither gone nor a zombie that its parent has yet to reap."""
    try:
        stat = pathlib.Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    return stat.rsplit(")", 1)[1].split()[0] not in "ZX"


def ranks_of(job):
    """Rank -> process of everything that runs the program with this job."""
    found = {}
    for entry in pathlib.Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            arguments = (entry / "cmdline").read_bytes().split(b"\0")
            variables = (entry / "environ").read_bytes().split(b"\0")
        except OSError:
            continue
        if arguments[0] == LONGSPAN.encode() and str(job).encode() in arguments:
            for variable in variables:
                if variable.startswith(b"OMPI_COMM_WORLD_RANK="):
                    found[int(variable.split(b"=")[1])] = int(entry.name)
    return {rank: pid for rank, pid in found.items() if alive(pid)}


class Launch:
    """A job under mpirun; its output goes to files, which no surviving process can keep waiting."""

    def __init__(self, job, root, arguments):
        self.job = job
        self.paths = [root / "stdout", root / "stderr"]
        with open(self.paths[0], "wb") as out, open(self.paths[1], "wb") as errors:
            self.process = subprocess.Popen(arguments, env=harness.environment(), stdout=out,
                                            stderr=errors, start_new_session=True)
        self.began = time.monotonic()

    def output(self):
        return self.paths[0].read_text(encoding="utf-8", errors="replace")

    def errors(self):
        return self.paths[1].read_text(encoding="utf-8", errors="replace")

    def until(self, condition):
        while not condition():
            if self.process.poll() is not None or time.monotonic() - self.began > GUARD:
                raise AssertionError(f"not to be: {self.process.returncode}\n{self.output()}"
                                     f"\n{self.errors()}")
            time.sleep(0.002)

    def end(self):
        """Exit code; seconds that it took from now; processes that were left."""
        start = time.monotonic()
        try:
            code = self.process.wait(GUARD)
            seconds = time.monotonic() - start
            # mpirun leaves when it has killed its ranks; the system may still be clearing them away.
            while ranks_of(self.job) and time.monotonic() - start < seconds + 2:
                time.sleep(0.01)
            return code, seconds, ranks_of(self.job)
        finally:
            self.clear()

    def clear(self):
        for pid in ranks_of(self.job).values():
            os.kill(pid, signal.SIGKILL)
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


class Faults(harness.Workspace):

    def launch(self, job, *arguments):
        launch = Launch(job, self.root, MPIRUN + [str(RANKS), LONGSPAN, "train", str(job)] +
                        list(arguments))
        self.addCleanup(launch.clear)
        return launch

    def launch_with_one(self, rank, job, *arguments):
        """`arguments` are those of one rank alone."""
        parts = []
        for count, extra in ((rank, ()), (1, arguments), (RANKS - 1 - rank, ())):
            if count > 0:
                parts += [":"] if parts else []
                parts += ["-np", str(count), LONGSPAN, "train", str(job), "--force", *extra]
        launch = Launch(job, self.root, MPIRUN[:-1] + parts)
        self.addCleanup(launch.clear)
        return launch

    def ended(self, launch, codes, names=(), said=1):
        """The job ends in time with one of `codes`; what it says is said so often."""
        code, seconds, left = launch.end()
        told = f"exit code {code} after {seconds:.1f} s\n{launch.output()}\n{launch.errors()}"
        self.assertIn(code, codes, told)
        self.assertEqual(left, {}, told)
        # The answer of mpirun takes a second or two, and crowded cores more.
        self.assertLess(seconds, TIMEOUT + 30, told)
        messages = re.findall(r"longspan: error: .*", launch.errors())
        self.assertEqual(len(messages), said, told)
        for name in names:
            self.assertRegex(messages[0], name)
        return told

    def trained(self, name, **changes):
        """A job without an end that has a checkpoint of step 5."""
        settings = {"training": {"steps": 1000000, "validation_every": 0},
                    "parallel": {"timeout_seconds": TIMEOUT},
                    "checkpoint": {"every": 0}, "logging": {"every": 1}}
        for section, keys in changes.items():
            settings.setdefault(section, {}).update(keys)
        job = self.job(name, **settings)
        run("train", job, "--until-step", 5, *UNDISTURBED, ranks=RANKS)
        return job

    def wait_for_steps(self, launch):
        launch.until(lambda: launch.output().count("\nstep ") >= 3)
        self.assertIn("resumed after step 5", launch.output())

    def test_any_rank_killed_or_stopped_in_a_step(self):
        job = self.trained("struck")
        saved = self.checkpoint_files("struck")
        for rank in range(RANKS):
            for number in (signal.SIGKILL, signal.SIGSTOP):
                with self.subTest(rank=rank, signal=number.name):
                    launch = self.launch(job)
                    self.wait_for_steps(launch)
                    os.kill(ranks_of(job)[rank], number)
                    if number == signal.SIGKILL:
                        self.ended(launch, (128 + number,), said=0)
                        self.assertRegex(launch.errors(), f"rank {rank} .* exited on signal 9")
                    else:
                        self.ended(launch, (PEER_FAILED,), names=(
                            rf"rank \d waited {TIMEOUT}.* seconds in step \d+ for the .* of the "
                            rf"world, and gives up: no sign of life from rank\(s\) {rank};",
                            "parallel.timeout_seconds"))
                    self.assertEqual(self.checkpoint_files("struck"), saved)
        run("train", job, "--until-step", 7, *UNDISTURBED, ranks=RANKS)
        self.assertEqual(sorted(self.losses("struck"))[-2:], [6, 7])

    def test_an_exception_on_any_rank_alone(self):
        job = self.trained("thrown")
        saved = self.checkpoint_files("thrown")
        # Enough to start, too little for a step.
        peaks = [row["peak_bytes"]["total"] for row in self.metrics("thrown") if "loss" in row]
        limit = int(0.9 * max(peaks))
        for rank in range(RANKS):
            with self.subTest(rank=rank):
                launch = self.launch_with_one(rank, job, "--set", f"memory.limit={limit}")
                self.ended(launch, (OUT_OF_MEMORY,), names=(
                    "memory.limit", f"error: {f'rank {rank}: ' if rank else ''}out of memory"))
                self.assertIn("resumed after step 5", launch.output())
                self.assertEqual(self.checkpoint_files("thrown"), saved)
        with self.subTest("all ranks alike"):
            launch = self.launch(job, "--force", "--set", f"memory.limit={limit}")
            self.ended(launch, (OUT_OF_MEMORY,), names=("memory.limit",))
        run("train", job, "--until-step", 7, *UNDISTURBED, ranks=RANKS)

    def strike_while_starting(self, job, rank, number):
        """Launches until the rank was found before the job had started."""
        while True:
            launch = self.launch(job)
            launch.until(lambda: rank in ranks_of(job))
            os.kill(ranks_of(job)[rank], signal.SIGSTOP)
            if launch.output() == "":
                os.kill(ranks_of(job)[rank], number)
                return launch
            launch.clear()

    def test_a_rank_killed_or_stopped_while_starting(self):
        job = self.trained("starting")
        saved = self.checkpoint_files("starting")
        for rank, number in ((0, signal.SIGSTOP), (2, signal.SIGSTOP), (3, signal.SIGKILL)):
            with self.subTest(rank=rank, signal=number.name):
                launch = self.strike_while_starting(job, rank, number)
                if number == signal.SIGKILL:
                    self.ended(launch, (128 + number,), said=0)
                else:
                    self.ended(launch, (PEER_FAILED,),
                               names=(rf"rank \d waited {TIMEOUT}.* seconds for .* of the world",))
                self.assertEqual(self.checkpoint_files("starting"), saved)

    def strike_while_saving(self, launch, directory, pid, number):
        """Stops the process until that is seen to have been in the middle of a save."""
        while True:
            launch.until(lambda: self.unfinished(directory))
            os.kill(pid, signal.SIGSTOP)
            time.sleep(0.01)
            if self.unfinished(directory):
                break
            os.kill(pid, signal.SIGCONT)
        os.kill(pid, number)

    def test_a_rank_killed_or_stopped_while_saving(self):
        # Large enough that saving takes longer than seeing that it has begun.
        job = self.trained("saving", checkpoint={"every": 1, "keep_last": 2},
                           model={"hidden_size": 512, "intermediate_size": 1024})
        directory = self.root / "saving" / "checkpoints"
        for rank, number in ((0, signal.SIGSTOP), (0, signal.SIGKILL), (2, signal.SIGSTOP)):
            with self.subTest(rank=rank, signal=number.name):
                newest = self.newest(directory)
                launch = self.launch(job)
                launch.until(lambda: " saved " in launch.output())
                self.assertIn(f"resumed after step {newest}", launch.output())
                self.strike_while_saving(launch, directory, ranks_of(job)[rank], number)
                if number == signal.SIGKILL:
                    self.ended(launch, (128 + number,), said=0)
                else:
                    self.ended(launch, (PEER_FAILED,), names=(
                        rf"in step \d+ for .* no sign of life from rank\(s\) {rank};",))
        newest = self.newest(directory)
        result = run("train", job, "--until-step", newest + 1, *UNDISTURBED, ranks=RANKS)
        self.assertIn(f"resumed after step {newest}", result.stdout)
        self.assertNotIn("damaged", result.stderr)

    @staticmethod
    def newest(directory):
        return max(int(path.name.split("-")[1]) for path in directory.glob("step-*[0-9]"))

    @staticmethod
    def unfinished(directory):
        return [entry for entry in os.listdir(directory) if not re.fullmatch(r"step-\d+|latest", entry)]

    def test_a_job_suspended_as_a_whole_goes_on(self):
        job = self.trained("suspended")
        launch = self.launch(job)
        self.wait_for_steps(launch)
        pids = ranks_of(job).values()
        for number, pause in ((signal.SIGSTOP, TIMEOUT + 2), (signal.SIGCONT, 0)):
            for pid in pids:
                os.kill(pid, number)
            time.sleep(pause)
        steps = launch.output().count("\nstep ")
        launch.until(lambda: launch.output().count("\nstep ") > steps + 3)
        launch.process.send_signal(signal.SIGUSR1)
        self.ended(launch, (75,), said=0)


if __name__ == "__main__":
    unittest.main()
