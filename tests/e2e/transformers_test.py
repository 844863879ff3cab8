"""What transformers makes of checkpoints and exports, live: LONGSPAN_PYTHON names a Python that has it
(default: the one that runs this). No network is needed."""

import json
import pathlib
import sys
import unittest

from harness import run
from other_python import PYTHON, SKIPPED, Documents, python

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]

FAMILIES = {
    "llama": {"tie_word_embeddings": False},
    "llama_tied": {"tie_word_embeddings": True, "head_dim": 16},
    "gpt2": {"model_type": "gpt2", "num_key_value_heads": 4},
    "qwen2": {"model_type": "qwen2", "tie_word_embeddings": True},
    # Documents are longer than the windows, and than the length that scaled positions began with.
    "llama3": {"rope_scaling": {"rope_type": "llama3", "factor": 8, "low_freq_factor": 1,
                                "high_freq_factor": 4, "original_max_position_embeddings": 8}},
    "yarn": {"model_type": "qwen2", "rope_scaling": {
        "rope_type": "yarn", "factor": 16, "original_max_position_embeddings": 8}},  # 128 in all
    "mistral": {"model_type": "mistral", "sliding_window": 6},
    "qwen3": {"model_type": "qwen3", "head_dim": 16, "tie_word_embeddings": True},
    "gemma2": {"model_type": "gemma2", "head_dim": 16, "sliding_window": 6},
    "gemma3_text": {"model_type": "gemma3_text", "head_dim": 16, "sliding_window": 6,
                    "rope_scaling": {"rope_type": "linear", "factor": 8}},
    "phi3": {"model_type": "phi3", "sliding_window": 6},
}
# Of transformers' own making: what its config classes are told besides the sizes.
THEIRS = {
    "llama": {}, "gpt2": {}, "qwen2": {}, "mistral": {"sliding_window": 6},
    "qwen3": {"head_dim": 16, "use_sliding_window": True, "sliding_window": 6,
              "max_window_layers": 1},
    "gemma2": {"head_dim": 16, "sliding_window": 6},
    "gemma3_text": {"head_dim": 16, "sliding_window": 6, "sliding_window_pattern": 2},
    "phi3": {"sliding_window": 6},
}

# Loads a model, tells what it complained of, and its mean loss over whole documents. The arguments
# are a directory and a file of token ids, a document a line.
PROBE = r"""
import json, logging, sys, warnings
import torch, transformers
said = []
class Ear(logging.Handler):
    def emit(self, record):
        said.append(record.getMessage())
transformers.logging.get_logger().addHandler(Ear(level=logging.WARNING))
warnings.showwarning = lambda message, *rest: said.append(str(message))
model, info = transformers.AutoModelForCausalLM.from_pretrained(sys.argv[1], output_loading_info=True)
keys = {name: sorted(map(str, value)) for name, value in info.items() if value}
dtype = str(model.dtype)
model = model.double().eval()
total, targets = 0.0, 0
with torch.no_grad():
    for line in open(sys.argv[2]):
        ids = torch.tensor([json.loads(line)])
        logits = model(ids).logits[0, :-1]
        total += torch.nn.functional.cross_entropy(logits, ids[0, 1:], reduction="sum").item()
        targets += ids.shape[1] - 1
print(json.dumps({"said": said, "keys": keys, "dtype": dtype, "loss": total / targets,
                  "parameters": model.num_parameters(),
                  "generation": type(model.generation_config).__name__,
                  "eos": model.config.eos_token_id}))
"""

# Saves a tiny model of transformers' own making, in shards.
MAKE = r"""
import json, sys, torch, transformers
torch.manual_seed(3)
family, out, more = sys.argv[1:4]
if family == "gpt2":
    sizes = dict(n_embd=32, n_layer=2, n_head=4, n_positions=128)
else:
    sizes = dict(hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
                 num_key_value_heads=2, max_position_embeddings=128)
config = transformers.AutoConfig.for_model(family, vocab_size=259, bos_token_id=1, eos_token_id=1,
                                           pad_token_id=0, **sizes, **json.loads(more))
model = transformers.AutoModelForCausalLM.from_config(config)
with torch.no_grad():
    for weight in model.parameters():
        weight.add_(0.05 * torch.randn_like(weight))
model.save_pretrained(out, max_shard_size="30KB")
"""


# How far tensors of one directory are from those of the same names of another, at worst.
COMPARE = r"""
import glob, os, sys
from safetensors import safe_open
worst, count = 0.0, 0
for path in sorted(glob.glob(sys.argv[1] + "/*.safetensors")):
    ours = safe_open(path, "pt")
    theirs = safe_open(os.path.join(sys.argv[2], os.path.basename(path)), "pt")
    assert set(ours.keys()) == set(theirs.keys()) and ours.metadata() == theirs.metadata(), path
    for name in ours.keys():
        a, b = ours.get_tensor(name).double(), theirs.get_tensor(name).double()
        worst = max(worst, ((a - b).norm() / b.norm().clamp(min=1e-300)).item())
        count += 1
print(count, worst)
"""


class Transformers(Documents):

    def probe(self, directory):
        """What transformers says of a model, on the documents that train() validates on."""
        return self.asked(PROBE, directory, self.documents)

    def job_of(self, name, model, **training):
        """Validates on all of its data: rows hold whole documents."""
        job = self.job(name, model=model, training={"steps": 10, "micro_batch_tokens": 128,
                                                    "validation_every": 0, **training},
                       data={"train": [str(self.short)], "validation": [str(self.short)],
                             "validation_fraction": 0.0},
                       schedule={"warmup_steps": 0}, checkpoint={"every": 0})
        keys = json.loads(job.read_text())
        if "from" in model:
            keys["model"] = model
        job.write_text(json.dumps(keys))
        return job

    def validation_loss(self, name):
        return [row["validation_loss"] for row in self.metrics(name) if "validation_loss" in row][-1]

    def check_clean(self, found):
        self.assertEqual(found["keys"], {})
        self.assertEqual([line for line in found["said"]
                          if "missing" in line or "unexpected" in line or "not initialized" in line
                          or "not used" in line], [], found["said"])

    def test_checkpoints_and_exports_load_and_give_the_same_loss(self):
        for family, model in FAMILIES.items():
            name = f"made-{family}"
            run("train", self.job_of(name, model))
            step = self.root / name / "checkpoints" / "step-00000010"
            exports = {"fp32": self.root / f"{name}-fp32", "bf16": self.root / f"{name}-bf16"}
            for dtype, out in exports.items():
                run("export", self.root / name, "-o", out, "--dtype", dtype, "--shard-size", "20KB")
            ours = self.validation_loss(name)
            for directory in (step, exports["fp32"]):
                found = self.probe(directory)
                self.check_clean(found)
                self.assertEqual(found["dtype"], "torch.float32")
                self.assertAlmostEqual(found["loss"], ours, delta=1e-4 * ours)
                self.assertEqual(found["eos"], 1)
            found = self.probe(exports["bf16"])
            self.check_clean(found)
            self.assertEqual(found["dtype"], "torch.bfloat16")
            self.assertAlmostEqual(found["loss"], ours, delta=2e-2)

    def test_models_of_transformers_begin_runs_with_their_loss(self):
        for family, more in THEIRS.items():
            theirs = self.root / f"theirs-{family}"
            result = python(MAKE, family, theirs, json.dumps(more))
            self.assertEqual(result.returncode, 0, result.stderr)
            self.assertTrue((theirs / "model.safetensors.index.json").exists())
            run("import", theirs)
            name = f"from-{family}"
            job = self.job_of(name, {"from": str(theirs)}, steps=1)
            run("train", job, "--set", "optimizer.learning_rate=1e-12",
                "--set", "optimizer.weight_decay=0")
            expected = self.probe(theirs)["loss"]
            self.assertAlmostEqual(self.validation_loss(name), expected, delta=1e-4 * expected)
            # And back: what a step left, as they read it.
            found = self.probe(self.root / name / "checkpoints" / "step-00000001")
            self.check_clean(found)
            self.assertAlmostEqual(found["loss"], expected, delta=1e-4 * expected)

    def test_stored_values_are_those_of_this_transformers(self):
        """What model_tests compare with: logits, loss and every gradient of every family."""
        scripts = sorted((REPOSITORY / "scripts" / "fixtures").glob("*_reference.py"))
        scripts = [script for script in scripts if "tokenizer" not in script.name]
        fresh = self.root / "fresh"
        for script in scripts:
            subprocess.run([PYTHON, "-B", script, fresh], check=True, capture_output=True, text=True)
        stored = REPOSITORY / "tests" / "model" / "data"
        self.assertEqual(sorted(path.name for path in fresh.iterdir()),
                         sorted(path.name for path in stored.iterdir()))
        result = python(COMPARE, stored, fresh)
        self.assertEqual(result.returncode, 0, result.stderr)
        count, worst = result.stdout.split()
        self.assertGreater(int(count), 500)
        self.assertLess(float(worst), 1e-7)  # logits are stored as float32


if __name__ == "__main__":
    if python("import torch, transformers").returncode != 0:
        print(f"skipped: no transformers in {PYTHON} (LONGSPAN_PYTHON names another Python)")
        sys.exit(SKIPPED)
    unittest.main()
