"""The sbatch scripts on a real Slurm of one node, which this test starts and ends."""

import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import unittest

import harness

SCRIPTS = pathlib.Path(__file__).resolve().parents[2] / "scripts" / "cluster"
GUARD = 300  # seconds until a test that hangs is ended
TIMEOUT = 4  # seconds, of the job
SKIPPED = 77  # what ctest takes for it

CONFIGURATION = """
ClusterName=longspan
SlurmctldHost={host}
SlurmctldAddr=127.0.0.1
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
# A job that is requeued waits as long as credentials live: 120 seconds if not told.
AuthInfo=socket={root}/munge.socket,cred_expire=10
StateSaveLocation={root}/state
SlurmdSpoolDir={root}/spool
SlurmctldPidFile={root}/slurmctld.pid
SlurmdPidFile={root}/slurmd.pid
# Neither cgroups nor bound cores: this may be a container.
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SlurmdParameters=config_overrides
SelectType=select/cons_tres
NodeName={host} NodeAddr=127.0.0.1 CPUs=4 RealMemory=1000
PartitionName=test Nodes=ALL Default=YES
"""


def free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def wait_until(condition, what):
    start = time.monotonic()
    while not condition():
        if time.monotonic() - start > GUARD:
            raise AssertionError(f"not to be: {what()}")
        time.sleep(0.1)


class Cluster:
    """munged, slurmctld and slurmd with all that is theirs in one directory."""

    def __init__(self):
        self.root = pathlib.Path(tempfile.mkdtemp(prefix="longspan-slurm-"))
        self.root.chmod(0o755)  # munged wants others to reach its socket
        self.environment = dict(os.environ, SLURM_CONF=str(self.root / "slurm.conf"),
                                LONGSPAN=harness.LONGSPAN)
        self.daemons = []

    def start(self):
        for name in ("state", "spool"):
            (self.root / name).mkdir()
        key = self.root / "munge.key"
        key.touch(mode=0o600)
        key.write_bytes(os.urandom(1024))
        host = socket.gethostname().split(".")[0]
        (self.root / "slurm.conf").write_text(
            CONFIGURATION.format(host=host, ports=free_ports(2), root=self.root), encoding="utf-8")
        self.daemon("munged", "--foreground", "--force", f"--key-file={key}",
                    *(f"--{name}-file={self.root}/munge.{name}" for name in ("log", "pid", "seed")),
                    f"--socket={self.root}/munge.socket")
        wait_until((self.root / "munge.socket").exists, self.logs)
        self.daemon("slurmctld", "-D")
        self.daemon("slurmd", "-D", "-N", host)
        wait_until(lambda: self.run("sinfo", "--noheader", "--format=%T").stdout.strip() == "idle",
                   self.logs)

    def daemon(self, name, *arguments):
        with open(self.root / f"{name}.out", "wb") as out:
            self.daemons.append(subprocess.Popen(
                [shutil.which(name, path=os.environ["PATH"] + ":/usr/sbin"), *arguments],
                env=self.environment, stdout=out, stderr=out))

    def run(self, *arguments):
        return subprocess.run(arguments, env=self.environment, text=True, errors="replace",
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False)

    def logs(self):
        return "\n".join(f"{path.name}:\n{path.read_text(errors='replace')[-3000:]}"
                         for path in sorted(self.root.glob("*.out")))

    def job(self, number):
        """What `scontrol show job` says, as a dictionary."""
        text = self.run("scontrol", "--oneliner", "show", "job", str(number)).stdout
        return dict(re.findall(r"(\w+)=(\S*)", text))

    def processes(self):
        """Of all that was started in this cluster: they have its configuration's path."""
        sign = f"SLURM_CONF={self.root}".encode()
        found = []
        for entry in pathlib.Path("/proc").iterdir():
            try:
                if entry.name.isdigit() and sign in (entry / "environ").read_bytes():
                    found.append(int(entry.name))
            except OSError:
                continue
        return found

    def stop(self):
        self.run("scancel", "--full", "--user=root")
        start = time.monotonic()
        while self.run("squeue", "--noheader").stdout.strip() and time.monotonic() - start < 30:
            time.sleep(0.2)
        for daemon in reversed(self.daemons):
            daemon.terminate()
        for daemon in self.daemons:
            try:
                daemon.wait(20)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()
        for pid in self.processes():
            os.kill(pid, signal.SIGKILL)
        shutil.rmtree(self.root, ignore_errors=True)


def why_not():
    path = os.environ["PATH"] + ":/usr/sbin"
    missing = [name for name in ("munged", "slurmctld", "slurmd", "srun", "sbatch")
               if shutil.which(name, path=path) is None]
    if missing:
        return f"skipped: no Slurm ({', '.join(missing)}); Debian's packages: slurm-wlm munge"
    return "" if os.geteuid() == 0 else "skipped: Slurm's daemons need root"


class Slurm(harness.Workspace):

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.cluster = Cluster()
        cls.addClassCleanup(cls.cluster.stop)
        cls.cluster.start()

    def endless_job(self, name, **changes):
        return self.job(name, training={"steps": 10000000, "validation_every": 0, **changes},
                        parallel={"timeout_seconds": TIMEOUT}, checkpoint={"every": 0},
                        logging={"every": 100})

    def submit(self, script, job):
        """Two ranks with two minutes. Slurm looks twice a minute, and sends its signal rather half a
        minute too early than late: after 30 to 60 seconds here."""
        before = "B:" if script == "slurm-mpirun" else ""
        result = self.cluster.run(
            "sbatch", "--parsable", "--nodes=1", "--ntasks-per-node=2", "--cpus-per-task=1",
            "--time=2", f"--signal={before}USR1@60", f"--output={self.root}/{script}.out",
            str(SCRIPTS / script), str(job))
        self.assertEqual(result.returncode, 0, result.stderr)
        return int(result.stdout)

    def test_before_its_time_is_over_a_job_saves_and_is_requeued(self):
        names = ("slurm", "slurm-mpirun")
        jobs = {name: self.endless_job(name) for name in names}
        numbers = {name: self.submit(name, jobs[name]) for name in names}
        output = {name: self.root / f"{name}.out" for name in names}

        def told():
            return "\n".join(path.read_text(errors="replace")[-3000:]
                             for path in output.values() if path.exists()) + self.cluster.logs()

        ends = {}

        def all_are_requeued():
            for name in set(names) - set(ends):
                if int(self.cluster.job(numbers[name]).get("Restarts", 0)) > 0:
                    # The end comes into sight, so that the second run is the last.
                    ends[name] = max(self.losses(name)) + 50
                    self.endless_job(name, steps=ends[name])
            return len(ends) == len(names)

        wait_until(all_are_requeued, told)
        for name in names:
            wait_until(lambda name=name: self.cluster.job(numbers[name]).get("JobState") in
                       ("COMPLETED", "FAILED", "TIMEOUT", "CANCELLED"), told)
            self.assertEqual(self.cluster.job(numbers[name])["JobState"], "COMPLETED", told())
            self.assertIn("2 ranks (mpi)", output[name].read_text())
            self.assertIn(f"resumed after step {ends[name] - 50}", output[name].read_text())
            self.assertEqual(sorted(self.losses(name)), list(range(1, ends[name] + 1)))

    def test_ranks_that_do_not_know_of_each_other_are_refused(self):
        job = self.endless_job("lost")
        result = self.cluster.run("srun", "--mpi=none", "--ntasks=2", harness.LONGSPAN, "train",
                                  str(job))
        self.assertEqual(result.returncode, 2, result.stderr)
        self.assertIn("srun --mpi=pmix", result.stderr)
        # Alone, as in a batch script, a process needs no launcher.
        result = self.cluster.run("srun", "--mpi=none", "--ntasks=1", harness.LONGSPAN, "train",
                                  str(job), "--dry-run")
        self.assertEqual(result.returncode, 0, result.stderr)

    def test_a_stopped_rank_ends_the_job(self):
        job = self.endless_job("stopped")
        with open(self.root / "out", "wb") as out, open(self.root / "errors", "wb") as errors:
            srun = subprocess.Popen(
                ["srun", "--mpi=pmix", "--ntasks=2", "--kill-on-bad-exit=1", harness.LONGSPAN,
                 "train", str(job)], env=self.cluster.environment, stdout=out, stderr=errors)
        self.addCleanup(srun.kill)

        def said():
            return (self.root / "out").read_text() + (self.root / "errors").read_text()

        def ranks():
            return [pid for pid in self.cluster.processes()
                    if pathlib.Path(f"/proc/{pid}/cmdline").read_bytes().startswith(
                        harness.LONGSPAN.encode())]

        wait_until(lambda: "\nstep " in said(), said)
        pids = ranks()
        self.assertEqual(len(pids), 2)
        os.kill(pids[1], signal.SIGSTOP)
        self.assertEqual(srun.wait(GUARD), 4, said())
        self.assertEqual(said().count("longspan: error:"), 1, said())
        self.assertRegex(said(), r"rank \d waited .* in step \d+ for .* no sign of life from rank")
        wait_until(lambda: not ranks(), said)


if __name__ == "__main__":
    if why_not():
        print(why_not())
        sys.exit(SKIPPED)
    unittest.main()
