"""What scripts/bench/gpu_training runs: models, their FLOPs and data, and `Bench`, which starts one side's run
in a fresh process, watches its memory and remembers what fits and what time is left.
"""
import array
import json
import os
import pathlib
import random
import shutil
import struct
import subprocess
import sys
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
IN_BUNDLE = (ROOT / "about").exists()
OUT_OF_MEMORY = 3
WARM_UP_STEPS = 2
# Tokens of a step where sequences are shorter: rows of several documents here, batches there.
STEP_TOKENS = 16384
GIB = 1 << 30
# Dense bf16 of the data sheets, TFLOP/s.
PEAKS = {"H200": 989.0, "H100": 989.0, "A100": 312.0}
LLAMA3 = {"vocab_size": 128256, "rope_theta": 500000.0}
MODELS = {
    "125m": {"vocab_size": 50304, "hidden_size": 768, "intermediate_size": 2048, "num_hidden_layers": 12,
             "num_attention_heads": 12, "num_key_value_heads": 12, "tie_word_embeddings": True},
    "1b": {**LLAMA3, "hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 16,
           "num_attention_heads": 32, "num_key_value_heads": 8, "tie_word_embeddings": True},
    "8b-half": {**LLAMA3, "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 16,
                "num_attention_heads": 32, "num_key_value_heads": 8, "tie_word_embeddings": False},
    "8b": {**LLAMA3, "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32,
           "num_attention_heads": 32, "num_key_value_heads": 8, "tie_word_embeddings": False},
    # For trying this script on a CPU.
    "tiny": {"vocab_size": 512, "hidden_size": 64, "intermediate_size": 160, "num_hidden_layers": 2,
             "num_attention_heads": 4, "num_key_value_heads": 2, "tie_word_embeddings": False},
}
CELLS = ["8b-half@8192", "1b@8192", "125m@2048", "8b-half@32768", "1b@32768", "8b-half@131072",
         "1b@131072", "125m@8192", "8b-half@2048", "1b@2048", "125m@32768", "125m@131072"]
QUICK_CELLS = ["1b@8192", "8b-half@32768", "125m@2048"]
OUR_SETTINGS = ["none", "block_keep_attention", "block"]
THEIR_SETTINGS = [("none", "whole"), ("none", "ranges"), ("block", "ranges")]


def flops_of(model, length, sequences):
    """Of a step: 6 per matmul weight and token; causal attention counted once; nothing recomputed."""
    hidden, heads = model["hidden_size"], model["num_attention_heads"]
    width = heads * (hidden // heads)
    kv = width // heads * model["num_key_value_heads"]
    block = hidden * (2 * width + 2 * kv) + 3 * hidden * model["intermediate_size"]
    weights = model["num_hidden_layers"] * block + model["vocab_size"] * hidden
    attention = 12 * model["num_hidden_layers"] * width * length * (length + 1) // 2
    return sequences * (6 * weights * length + attention)


def write_tokens(prefix, vocabulary, length, documents):
    """A Megatron pair of documents of one length: random int32 tokens."""
    source = random.Random(1)
    with open(prefix.with_suffix(".bin"), "wb") as file:
        for _ in range(documents):
            drawn = array.array("I", source.randbytes(4 * length))
            ids = array.array("i", (value % vocabulary for value in drawn))
            if sys.byteorder != "little":
                ids.byteswap()
            file.write(ids.tobytes())
    prefix.with_suffix(".idx").write_bytes(
        b"MMIDIDX\0\0" + struct.pack("<QBQQ", 1, 4, documents, documents + 1) +
        struct.pack(f"<{documents}i", *[length] * documents) +
        struct.pack(f"<{documents}q", *(4 * length * i for i in range(documents))) +
        struct.pack(f"<{documents + 1}q", *range(documents + 1)))


class RunFailed(Exception):
    """A run ended otherwise than by being done or out of memory; the others go on."""


class DeviceMemory:
    """The most memory in use on the card while it is watched, by nvidia-smi: one measure for both sides."""

    def __init__(self, device):
        self.peak, self.process = None, None
        if device == "cuda" and shutil.which("nvidia-smi"):
            self.process = subprocess.Popen(
                ["nvidia-smi", "--id=0", "--query-gpu=memory.used", "--format=csv,noheader,nounits", "-lms",
                 "100"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
            threading.Thread(target=self.watch, daemon=True).start()

    def watch(self):
        for line in self.process.stdout:
            if line.strip().isdigit():
                self.peak = max(self.peak or 0, int(line) << 20)

    def stop(self):
        if self.process:
            self.process.terminate()
            self.process.wait()
        return self.peak


class Bench:
    def __init__(self, args, scratch):
        self.args, self.scratch = args, scratch
        self.begin = time.monotonic()
        self.spent, self.fitting, self.dropped, self.failed = {}, {}, [], {}
        self.flops_per_second = 0.3e12 * (args.peak_tflops or 1.0)  # a guess, for the time that is left

    # Time.

    def seconds_left(self):
        return float("inf") if not self.args.minutes else \
            60 * self.args.minutes - (time.monotonic() - self.begin)

    def timeout(self):
        """For subprocess: seconds, or None."""
        return max(1, self.seconds_left()) if self.args.minutes else None

    def failure(self, name, error):
        self.failed[name] = str(error)
        print(f"FAILED: {name}: {error}", flush=True)

    def in_time(self, name, flops):
        """Whether to start `name`, by how long it took before or may take; else it is noted as dropped."""
        expected = self.spent.get(name, 60 + flops / self.flops_per_second)
        if expected <= self.seconds_left():
            return True
        self.dropped.append(name)
        print(f"dropped for time: {name} (about {expected:.0f} s, {max(0, self.seconds_left()):.0f} s left)",
              flush=True)
        return False

    # Ours.

    def longspan(self, *arguments):
        done = subprocess.run([str(self.args.binary), *map(str, arguments)], text=True, capture_output=True,
                              check=False)
        if done.returncode != 0:
            raise RunFailed(f"exit {done.returncode} from longspan {' '.join(map(str, arguments))}\n"
                            f"{done.stdout[-2000:]}{done.stderr[-2000:]}")
        return done.stdout

    def job(self, model, length, sequences, level, steps):
        write_tokens(self.scratch / "random", model["vocab_size"], length, sequences * steps)
        row = length * sequences
        job = {
            "run": {"output_dir": str(self.scratch / "run"), "device": self.args.device,
                    "device_profile": self.args.profile,
                    "deterministic": False},  # as PyTorch's attention is not
            "model": {**model, "max_position_embeddings": row},
            "data": {"train": [str(self.scratch / "random.bin")], "packing": "packed"},
            "optimizer": {"learning_rate": 1e-4},
            "schedule": {"name": "constant"},
            # Stopped from here after so many steps: a run that ends by itself saves, up to 70 GB.
            "training": {"steps": 1000000, "tokens_per_step": row, "micro_batch_tokens": row, "precision": "bf16"},
            "memory": {"activation_checkpointing": level},
            "checkpoint": {"resume": "never"},
            "logging": {"tensorboard": False, "peak_tflops": self.args.peak_tflops or 1.0},
        }
        path = self.scratch / "job.json"
        path.write_text(json.dumps(job, indent=2), encoding="utf-8")
        return path

    def train(self, job, steps):
        """Metrics of the first steps of a job; None when memory does not suffice."""
        metrics, log = self.scratch / "run/metrics.jsonl", self.scratch / "run.log"
        memory = DeviceMemory(self.args.device)
        with open(log, "wb") as out:
            process = subprocess.Popen([str(self.args.binary), "train", str(job)], stdout=out,
                                       stderr=subprocess.STDOUT)
            lines = []
            while process.poll() is None and len(lines) < steps and self.seconds_left() > 0:
                time.sleep(0.02)
                lines = metrics.read_bytes().splitlines() if metrics.exists() else []
            ended = process.poll()
            process.kill()
            process.wait()
        device_bytes = memory.stop()
        shutil.rmtree(self.scratch / "run", ignore_errors=True)
        if ended == OUT_OF_MEMORY:
            return None
        if len(lines) < steps:
            how = "was stopped, as the time is over" if ended is None else f"ended with {ended}"
            raise RunFailed(f"longspan train {how}: {log.read_text(encoding='utf-8', errors='replace')[-3000:]}")
        rows = [json.loads(line) for line in lines[:steps]]
        return {"step_seconds": [row["step_seconds"] for row in rows], "device_bytes": device_bytes,
                "peak_bytes": rows[-1]["peak_bytes"]["total"]}

    def ours(self, name, length, sequences, steps):
        """The first setting that fits by plan and in truth."""
        for level in self.fitting.get(("longspan", name, length), OUR_SETTINGS):
            job = self.job(MODELS[name], length, sequences, level, steps)
            if not json.loads(self.longspan("plan", job, "--json"))["fits"]:
                continue
            found = self.train(job, steps)
            if found:
                self.fitting["longspan", name, length] = [level]
                return {**found, "setting": f"checkpointing {level}"}
        return None

    # Theirs.

    def pytorch(self, model, length, sequences, steps, setting, weights):
        """What transformers_llama.py prints; None when memory does not suffice."""
        checkpointing, loss = setting
        command = [self.args.python, ROOT / "scripts/bench/transformers_llama.py", "--device", self.args.device,
                   "--model", json.dumps({**model, "max_position_embeddings": length}), "--tokens", length,
                   "--batch", sequences, "--steps", steps, "--weights", weights,
                   "--checkpointing", checkpointing, "--loss", loss]
        if not self.args.no_compile:
            command.append("--compile")
        # What a round has compiled the next one finds.
        environment = dict(os.environ, TORCHINDUCTOR_CACHE_DIR=str(self.scratch / "inductor"))
        memory = DeviceMemory(self.args.device)
        try:
            done = subprocess.run([str(part) for part in command], env=environment, text=True,
                                  capture_output=True, check=False, timeout=self.timeout())
        except subprocess.TimeoutExpired:
            raise RunFailed("PyTorch was stopped, as the time is over") from None
        finally:
            device_bytes = memory.stop()
        if done.returncode == OUT_OF_MEMORY:
            return None
        if done.returncode != 0:
            raise RunFailed(f"exit {done.returncode} from {' '.join(map(str, command))}\n"
                            f"{done.stdout[-1000:]}{done.stderr[-3000:]}")
        return {**json.loads(done.stdout.strip().splitlines()[-1]), "device_bytes": device_bytes}

    def theirs(self, name, length, sequences, steps, weights):
        key = ("pytorch", weights, name, length)
        for setting in self.fitting.get(key, THEIR_SETTINGS):
            found = self.pytorch(MODELS[name], length, sequences, steps, setting, weights)
            if found:
                self.fitting[key] = [setting]
                return {**found, "setting": f"checkpointing {setting[0]}, loss {setting[1]}, "
                        f"{found['attention']}"}
        return None
