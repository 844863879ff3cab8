"""What PEFT makes of our adapters, and we of its, live: LONGSPAN_PYTHON names a Python that has it
(default: the one that runs this). No network is needed."""

import json
import sys
import unittest

from harness import run
from other_python import PYTHON, SKIPPED, Documents, python

FAMILIES = {
    "llama": {"tie_word_embeddings": True},
    "gpt2": {"model_type": "gpt2", "num_key_value_heads": 4},
    "qwen3": {"model_type": "qwen3", "head_dim": 16},
    "phi3": {"model_type": "phi3", "sliding_window": 6},
}

# Mean loss over whole documents of a base with an adapter: base, adapter, documents.
PROBE = r"""
import json, sys, warnings
import peft, torch, transformers
base = transformers.AutoModelForCausalLM.from_pretrained(sys.argv[1], dtype=torch.float64)
with warnings.catch_warnings(record=True) as said:
    warnings.simplefilter("always")
    model = peft.PeftModel.from_pretrained(base, sys.argv[2]).double().eval()
total, targets = 0.0, 0
with torch.no_grad():
    for line in open(sys.argv[3]):
        ids = torch.tensor([json.loads(line)])
        logits = model(ids).logits[0, :-1]
        total += torch.nn.functional.cross_entropy(logits, ids[0, 1:], reduction="sum").item()
        targets += ids.shape[1] - 1
print(json.dumps({"loss": total / targets, "said": [str(one.message) for one in said]}))
"""

# Saves an adapter of PEFT's own making, with a B that is not zero.
MAKE = r"""
import json, sys, torch, transformers, peft
torch.manual_seed(5)
base = transformers.AutoModelForCausalLM.from_pretrained(sys.argv[1])
model = peft.get_peft_model(base, peft.LoraConfig(task_type="CAUSAL_LM", **json.loads(sys.argv[3])))
with torch.no_grad():
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            parameter.normal_(0, 0.1)
model.save_pretrained(sys.argv[2])
"""


class Peft(Documents):

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        for family, model in FAMILIES.items():
            run("train", cls.job(f"base-{family}", model=model, training={"steps": 10},
                                 checkpoint={"every": 0}))
            run("export", cls.root / f"base-{family}", "-o", cls.root / f"model-{family}")

    def theirs(self, family, adapter):
        found = self.asked(PROBE, self.root / f"model-{family}", adapter, self.documents)
        self.assertEqual([line for line in found["said"] if "missing" in line or "unexpected" in line],
                         [])
        return found["loss"]

    def ours(self, *arguments):
        return json.loads(run("evaluate", *arguments, self.short, "--json", "-",
                              "--precision", "fp64").stdout)["loss"]

    def test_our_adapters_load_in_peft_and_give_the_same_loss(self):
        for family in FAMILIES:
            name = f"made-{family}"
            job = self.job(name, training={"steps": 10}, checkpoint={"every": 0},
                           adapter={"type": "lora", "rank": 4, "rank_stabilized": family == "llama"})
            keys = json.loads(job.read_text())
            keys["model"] = {"from": str(self.root / f"model-{family}")}
            job.write_text(json.dumps(keys))
            run("train", job)
            step = self.root / name / "checkpoints" / "step-00000010"
            expected = self.ours(step)
            self.assertGreater(abs(self.ours(self.root / f"model-{family}") - expected), 1e-4)
            self.assertAlmostEqual(self.theirs(family, step), expected, delta=1e-5 * expected)

    def test_pefts_adapters_are_read_and_give_the_same_loss(self):
        for family, options in (
                ("llama", {"r": 3, "lora_alpha": 5, "target_modules": ["q_proj", "v_proj"]}),
                ("gpt2", {"r": 4, "target_modules": "all-linear"}),
                ("qwen3", {"r": 4, "lora_alpha": 9, "use_rslora": True,
                           "target_modules": ["k_proj", "gate_proj", "down_proj"]}),
                ("phi3", {"r": 4, "target_modules": "all-linear"})):
            with self.subTest(family):
                out = self.root / f"theirs-{family}"
                result = python(MAKE, self.root / f"model-{family}", out, json.dumps(options))
                self.assertEqual(result.returncode, 0, result.stderr)
                expected = self.theirs(family, out)
                self.assertAlmostEqual(self.ours(out), expected, delta=1e-5 * expected)
                merged = self.root / f"merged-{family}"
                run("export", out, "--merge", "-o", merged)
                self.assertAlmostEqual(self.ours(merged), expected, delta=1e-5 * expected)


if __name__ == "__main__":
    if python("import torch, transformers, peft").returncode != 0:
        print(f"skipped: no peft in {PYTHON} (LONGSPAN_PYTHON names another Python)")
        sys.exit(SKIPPED)
    unittest.main()
