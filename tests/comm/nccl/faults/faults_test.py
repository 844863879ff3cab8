#!/usr/bin/env python3
"""When NCCL fails or a rank is missing, the job ends in time, with the cause: NCCL_FAULTS is the
program with the scenarios, MPIRUN the launcher's command without the number of ranks."""
import os
import re
import subprocess
import sys
import tempfile
import time

TIMEOUT = 3  # the program's parallel.timeout_seconds
# Grace, the roll, the report, and a launcher on a busy machine.
AFTERWARDS = 15
PEER_FAILED = 4

# Scenario: exit code, message, seconds until the end.
SCENARIOS = {
    "orderly": (0, None, 10),
    "missing": (PEER_FAILED, r"rank \d waited [\d.]+ seconds in step 7 for the all-reduce of the "
                             r"world, and gives up: a rank of it has stopped", TIMEOUT),
    "missing_at_barrier": (PEER_FAILED, r"waited [\d.]+ seconds in step 7 for the (all-reduce|"
                                        r"barrier) of the world.* no sign of life from rank\(s\) 2",
                           TIMEOUT),
    "missing_at_meeting": (PEER_FAILED, r"waited [\d.]+ seconds in step 7 for the (meeting of GPUs|"
                                        r"broadcast) of the second group of rank\(s\) 0, 1, 2, and "
                                        r"gives up: no sign of life from rank\(s\) 2", TIMEOUT),
    "failing_meanwhile": (PEER_FAILED, r"communication of rank 2 failed in step 7 in the time "
                                       r"between operations of the world: NCCL: remote process "
                                       r"exited", 0),
    "failing_in_reading": (PEER_FAILED, r"communication of rank \d failed in step 7 in the "
                                        r"all-reduce of the world: NCCL: remote process exited", 1),
    "failing_in_operation": (PEER_FAILED, r"communication of rank \d failed in step 7 in the "
                                          r"all-reduce of the world: NCCL: remote", 0),
    "hanging_abort": (PEER_FAILED, r"waited [\d.]+ seconds in step 7 for the (all-reduce|barrier) of "
                                   r"the world.* no sign of life from rank\(s\) 2", 40),
    "computing_long": (0, None, 30),
}


def run(scenario, folder):
    """Exit code, what was printed, and the seconds that it took."""
    command = os.environ["MPIRUN"].split() + ["3", os.environ["NCCL_FAULTS"], scenario]
    environment = dict(os.environ, TMPDIR=folder, OMP_NUM_THREADS="1")
    start = time.monotonic()
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    return done.returncode, done.stdout, done.stderr, time.monotonic() - start


def faults_of(scenario, folder):
    """What is wrong with a scenario's end."""
    code, pattern, seconds = SCENARIOS[scenario]
    found, printed, errors, took = run(scenario, folder)
    faults = []
    if found != code:
        faults.append(f"exit code {found}, expected {code}")
    reports = re.findall(r"longspan: error: .*", errors)
    if pattern is None and reports or pattern and len(reports) != 1:
        faults.append(f"{len(reports)} errors were told")
    if pattern and not re.search(pattern, errors):
        faults.append(f"no message like {pattern!r}")
    if took > seconds + AFTERWARDS:
        faults.append(f"it took {took:.0f} seconds")
    if scenario == "computing_long" and took < TIMEOUT:
        faults.append(f"it took no longer than the timeout: {took:.1f} seconds")
    if scenario.startswith(("missing", "failing")) and "read" in printed:
        faults.append("a rank went on with what a failed operation left")
    print(f"{scenario}: {took:.1f} s, exit code {found}: {' | '.join(reports)}", flush=True)
    return [f"{scenario}: {fault}\n{errors}" for fault in faults]


def main():
    faults = []
    for scenario in sys.argv[1:] or SCENARIOS:
        with tempfile.TemporaryDirectory() as folder:
            faults += faults_of(scenario, folder)
    print("\n".join(faults))
    sys.exit(1 if faults else 0)


if __name__ == "__main__":
    main()
