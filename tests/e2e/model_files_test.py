"""Models in and out: export, import, inspect, model.from, and directories that are not what they seem."""

import json
import pathlib
import resource
import shutil
import struct
import subprocess
import sys
import unittest

import harness
from harness import run
from synthetic import synthetic_llama

FAMILIES = {
    "llama": {"tie_word_embeddings": False},
    "gpt2": {"model_type": "gpt2", "num_key_value_heads": 4},
    "qwen2": {"model_type": "qwen2", "tie_word_embeddings": True},
}


def header_of(path):
    with open(path, "rb") as file:
        return json.loads(file.read(struct.unpack("<Q", file.read(8))[0]))


def tensors_of(directory):
    """Name -> (dtype, shape, bytes) of all files of a model directory."""
    tensors = {}
    for path in sorted(pathlib.Path(directory).glob("*.safetensors")):
        data = path.read_bytes()
        begin = 8 + struct.unpack("<Q", data[:8])[0]
        for name, entry in header_of(path).items():
            if name == "__metadata__":
                continue
            first, last = entry["data_offsets"]
            tensors[name] = (entry["dtype"], entry["shape"], data[begin + first:begin + last])
    return tensors


class Models(harness.Workspace):

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        for family, model in FAMILIES.items():
            job = cls.job(family, model=model, training={"steps": 10},
                          schedule={"warmup_steps": 2}, checkpoint={"every": 0})
            run("train", job)

    def refused(self, *arguments, names=(), expect=2, ranks=0):
        result = run(*arguments, expect=None, ranks=ranks)
        self.assertEqual(result.returncode, expect, f"{arguments}\n{result.stdout}\n{result.stderr}")
        for name in names:
            self.assertIn(name, result.stderr, arguments)

    def inspect(self, path, *options):
        return json.loads(run("inspect", path, "--json", *options).stdout)

    def validation_loss(self, name):
        return [row["validation_loss"] for row in self.metrics(name) if "validation_loss" in row][-1]

    def test_an_export_is_a_whole_model_and_begins_another_run(self):
        for family in FAMILIES:
            out = self.root / f"{family}-export"
            run("export", self.root / family, "-o", out, "--shard-size", "20KB")
            names = sorted(path.name for path in out.iterdir())
            shards = [name for name in names if name.endswith(".safetensors")]
            self.assertGreater(len(shards), 2)
            self.assertEqual(shards, [f"model-{n:05}-of-{len(shards):05}.safetensors"
                                      for n in range(1, len(shards) + 1)])
            for name in ("config.json", "generation_config.json", "tokenizer_config.json",
                         "model.safetensors.index.json"):
                self.assertIn(name, names)
            self.assertNotIn("trainer.json", names)
            index = json.loads((out / "model.safetensors.index.json").read_text())
            tensors = tensors_of(out)
            self.assertEqual(set(index["weight_map"]), set(tensors))
            self.assertEqual(index["metadata"]["total_size"],
                             sum(len(data) for _, _, data in tensors.values()))
            for shard in shards:
                self.assertEqual(header_of(out / shard)["__metadata__"], {"format": "pt"})
            step = self.root / family / "checkpoints" / "step-00000010"
            self.assertEqual(tensors, tensors_of_model(step))
            run("import", out)
            # At a rate that changes nothing, the new run validates as the old one ended.
            for ranks, stage in ((0, 1), (3, 3)):
                name = f"{family}-from-{ranks}"
                job = self.job(name, training={"steps": 1}, schedule={"warmup_steps": 0},
                               optimizer={"learning_rate": 1e-12, "weight_decay": 0.0},
                               parallel={"zero_stage": stage})
                keys = json.loads(job.read_text())
                keys["model"] = {"from": str(out)}
                job.write_text(json.dumps(keys))
                said = run("train", job, ranks=ranks).stdout
                self.assertIn("weights of", said)
                self.assertAlmostEqual(self.validation_loss(name), self.validation_loss(family),
                                       delta=2e-5)
            # Started again it goes on, and does not begin anew.
            keys["training"]["steps"] = 2
            job.write_text(json.dumps(keys))
            said = run("train", job, ranks=3).stdout
            self.assertIn("resumed after step 1", said)
            self.assertNotIn("weights of", said)

    def test_dtypes_are_converted(self):
        whole = tensors_of_model(self.root / "llama" / "checkpoints" / "step-00000010")
        for dtype, name, width in (("bf16", "BF16", 2), ("fp16", "F16", 2), ("fp32", "F32", 4)):
            out = self.root / f"llama-{dtype}"
            run("export", self.root / "llama", "-o", out, "--dtype", dtype)
            config = json.loads((out / "config.json").read_text())
            self.assertEqual(config["torch_dtype"],
                             {"bf16": "bfloat16", "fp16": "float16", "fp32": "float32"}[dtype])
            for tensor, (kind, shape, data) in tensors_of(out).items():
                self.assertEqual((kind, shape), (name, whole[tensor][1]))
                self.assertEqual(len(data) * 4, len(whole[tensor][2]) * width)
                exact = struct.unpack(f"<{len(data) // width}f", whole[tensor][2])
                if dtype == "fp16":
                    near = struct.unpack(f"<{len(exact)}e", data)
                    for a, b in zip(exact, near):
                        self.assertLessEqual(abs(a - b), abs(a) * 2**-11 + 2**-25)
            # And back: what was rounded stays so, and loads.
            back = self.root / f"llama-{dtype}-back"
            run("import", out, "-o", back, "--dtype", "fp32")
            self.assertEqual(self.inspect(back)["tensors_by_dtype"], {"float32": len(whole)})

    def test_hub_names_of_gpt2_and_its_masks_are_understood(self):
        out = self.root / "gpt2-hub"
        run("export", self.root / "gpt2", "-o", out)
        tensors = {name.removeprefix("transformer."): value
                   for name, value in tensors_of(out).items()}
        for layer in range(2):
            tensors[f"h.{layer}.attn.bias"] = ("BOOL", [1, 1, 2, 2], b"\1\0\1\1")
            tensors[f"h.{layer}.attn.masked_bias"] = ("F32", [], struct.pack("<f", -1e4))
        tensors["lm_head.weight"] = tensors["wte.weight"]
        write_tensors(out / "model.safetensors", tensors)
        clean = self.root / "gpt2-clean"
        run("import", out, "-o", clean)
        self.assertEqual(tensors_of(clean), tensors_of_model(
            self.root / "gpt2" / "checkpoints" / "step-00000010"))
        tensors["lm_head.weight"] = ("F32",) + tensors["wte.weight"][1:2] + (
            bytes(len(tensors["wte.weight"][2])),)
        write_tensors(out / "model.safetensors", tensors)
        self.refused("import", out, names=["lm_head.weight", "tie_word_embeddings"])

    def test_what_belongs_to_a_model_goes_along(self):
        """Tokenizer and generation settings, through a run and its export, where the job names none."""
        model = self.root / "complete"
        run("export", self.root / "llama", "-o", model)
        config = json.loads((model / "config.json").read_text())
        config.update(bos_token_id=7, eos_token_id=[8, 9], pad_token_id=10)
        (model / "config.json").write_text(json.dumps(config))
        belongings = {"tokenizer.json": '{"version": "1.0"}', "tokenizer_config.json": "{}",
                      "chat_template.jinja": "{{ messages }}",
                      "generation_config.json": '{"temperature": 0.6}'}
        for name, text in belongings.items():
            (model / name).write_text(text)
        (model / "secrets.txt").write_text("not of the model")

        def begin(name, tokenizer):
            job = self.job(name, training={"steps": 1}, schedule={"warmup_steps": 0},
                           data={"tokenizer": tokenizer})
            keys = json.loads(job.read_text())
            keys["model"] = {"from": str(model)}
            job.write_text(json.dumps(keys))
            run("train", job)
            return self.root / name / "checkpoints" / "step-00000001"

        out = self.root / "handed-on"
        step = begin("heir", "")
        run("export", step, "-o", out)
        for directory in (step, out):
            for name, text in belongings.items():
                self.assertEqual((directory / name).read_text(), text)
            self.assertFalse((directory / "secrets.txt").exists())
            config = json.loads((directory / "config.json").read_text())
            self.assertEqual([config[f"{name}_token_id"] for name in ("bos", "eos", "pad")],
                             [7, [8, 9], 10])
        # A tokenizer that the job names takes its place.
        step = begin("own", "bytes")
        self.assertIn("ByT5Tokenizer", (step / "tokenizer_config.json").read_text())
        self.assertFalse((step / "tokenizer.json").exists())
        self.assertEqual((step / "generation_config.json").read_text(), '{"temperature": 0.6}')
        self.assertEqual(json.loads((step / "config.json").read_text())["eos_token_id"], 1)

    def test_nothing_of_the_user_is_overwritten(self):
        out = self.root / "mine"
        out.mkdir()
        (out / "notes.txt").write_text("mine")
        self.refused("export", self.root / "llama", "-o", out, names=["mine", "new one"])
        (self.root / "file").write_text("mine")
        self.refused("export", self.root / "llama", "-o", self.root / "file", names=["file"])
        self.assertEqual([path.name for path in out.iterdir()], ["notes.txt"])
        empty = self.root / "empty"
        empty.mkdir()
        run("export", self.root / "llama", "-o", f"{empty}/")
        self.assertTrue((empty / "config.json").exists())
        self.assertEqual([path.name for path in self.root.iterdir()
                          if path.name.startswith(".tmp")], [])
        self.refused("export", self.root / "llama", "-o", self.root / "x", "--shard-size", "5",
                     names=["--shard-size", "500MB"])
        self.refused("import", empty, "--dtype", "bf16", names=["--output"])

    def test_damaged_and_unfit_models_are_refused(self):
        good = self.root / "fit"
        run("export", self.root / "llama", "-o", good)
        tensors = tensors_of(good)

        def broken(name):
            path = self.root / f"unfit-{name}"
            shutil.copytree(good, path)
            return path

        nan = broken("nan")
        kind, shape, data = tensors["model.norm.weight"]
        changed = dict(tensors, **{"model.norm.weight": (kind, shape,
                                                         data[:4] + b"\0\0\xc0\x7f" + data[8:])})
        write_tensors(nan / "model.safetensors", changed)
        self.refused("import", nan, names=["number 1 of tensor model.norm.weight", "not finite"])
        self.refused("import", nan, "-o", self.root / "never", names=["not finite"])
        self.assertFalse((self.root / "never").exists())
        big = broken("big")
        changed["model.norm.weight"] = (kind, shape, struct.pack("<f", 1e6) + data[4:])
        write_tensors(big / "model.safetensors", changed)
        self.refused("import", big, "-o", self.root / "never", "--dtype", "fp16",
                     names=["beyond float16"])
        missing = broken("missing")
        write_tensors(missing / "model.safetensors",
                      {name: tensor for name, tensor in tensors.items() if "norm" not in name})
        self.refused("import", missing, names=["5 of the 21 tensors", "are not there",
                                               "model.layers.0.input_layernorm.weight"])
        self.assertIn("are not there", self.inspect(missing)["problem"])
        job = self.job("unfit", model={}, parallel={"zero_stage": 3})
        keys = json.loads(job.read_text())
        keys["model"] = {"from": str(missing)}
        job.write_text(json.dumps(keys))
        self.refused("train", job, names=["are not there"], ranks=2)
        self.refused("train", job, "--dry-run", names=["are not there"])
        run("plan", job)  # which needs no weights
        pickled = broken("pickled")
        (pickled / "model.safetensors").unlink()
        (pickled / "pytorch_model.bin").write_bytes(b"\x80\x02")
        self.refused("import", pickled, names=["pickle", "save_pretrained"])
        outside = broken("outside")
        (outside / "model.safetensors").unlink()
        index = {"weight_map": {name: "../fit/model.safetensors" for name in tensors}}
        (outside / "model.safetensors.index.json").write_text(json.dumps(index))
        self.refused("import", outside, names=["plain name"])
        self.refused("inspect", outside, names=["plain name"])
        linked = broken("linked")
        (linked / "config.json").unlink()
        (linked / "config.json").symlink_to("/etc/passwd")
        self.refused("import", linked, names=["out of its directory"])
        step = self.root / "damaged-step"
        shutil.copytree(self.root / "llama" / "checkpoints" / "step-00000010", step)
        weights = bytearray((step / "model.safetensors").read_bytes())
        weights[-1] ^= 1
        (step / "model.safetensors").write_bytes(weights)
        self.refused("export", step, "-o", self.root / "never", expect=5, names=["model.safetensors"])
        self.refused("export", self.root / "nowhere", "-o", self.root / "never", names=["nowhere"])

    def test_inspect_shows_what_a_path_holds(self):
        model = self.root / "shown"
        run("export", self.root / "qwen2", "-o", model, "--dtype", "bf16")
        found = self.inspect(model, "--tensors")
        self.assertEqual(found["kind"], "model")
        self.assertEqual(found["model_type"], "qwen2")
        self.assertEqual(found["config"]["hidden_size"], 32)
        self.assertEqual(found["parameters"], found["elements"])
        self.assertEqual(found["bytes"], 2 * found["parameters"])
        self.assertEqual(found["config_dtype"], "bfloat16")
        self.assertEqual(len(found["tensor_list"]), found["tensors"])
        self.assertNotIn("problem", found)
        text = run("inspect", model, "--tensors").stdout
        for part in ("qwen2", "bfloat16", "model.layers.1.self_attn.q_proj.bias"):
            self.assertIn(part, text)
        found = self.inspect(self.root / "qwen2")
        self.assertEqual((found["kind"], found["steps"]), ("run", 10))
        self.assertEqual([step["step"] for step in found["checkpoints"]], [10])
        found = self.inspect(found["checkpoints"][0]["path"])
        self.assertEqual((found["kind"], found["step"], found["updates"]), ("checkpoint", 10, 10))
        self.assertGreater(found["tokens"], 10 * 400)
        self.assertLessEqual(found["tokens"], 10 * 512)
        self.assertEqual(found["model"]["model_type"], "qwen2")
        found = self.inspect(model / "model.safetensors")
        self.assertEqual((found["kind"], found["metadata"]), ("safetensors", {"format": "pt"}))
        found = self.inspect(self.tokens)
        self.assertEqual((found["kind"], found["documents"]), ("tokens", 120))
        self.assertEqual(found["document_tokens"]["max"], found["longest_document"])
        self.assertEqual(sum(each["documents"] for each in found["histogram"]), 120)
        self.assertEqual(sum(each["tokens"] for each in found["histogram"]), found["tokens"])
        self.inspect(self.tokens, "--picture", self.root / "lengths.svg", "--lengths-out", self.root / "lengths.txt")
        lengths = [int(line) for line in (self.root / "lengths.txt").read_text().splitlines()]
        self.assertEqual((len(lengths), sum(lengths)), (120, found["tokens"]))
        self.assertIn("</svg>", (self.root / "lengths.svg").read_text())
        self.refused("inspect", model, "--picture", self.root / "x.svg", names=["--picture"])
        self.refused("inspect", self.tokens, "--raw-type", "uint16", names=["--raw-type"])
        self.refused("inspect", self.root / "nowhere", names=["nowhere"])
        self.refused("inspect", self.corpus, names=["corpus.jsonl"])

    def test_flat_token_files_are_trained_on(self):
        ids = [5 + n % 200 for n in range(6000)]
        for place in range(49, 6000, 50):
            ids[place] = 1
        raw = self.root / "raw.bin"
        raw.write_bytes(struct.pack(f"<{len(ids)}H", *ids))
        llmc = self.root / "llmc.bin"
        llmc.write_bytes(struct.pack("<256i", 20240520, 1, len(ids), *[0] * 253) + raw.read_bytes())
        for name, data in (("raw", {"raw_type": "uint16"}), ("llmc", {})):
            job = self.job(name, training={"steps": 3}, data={
                "train": [str(self.root / f"{name}.bin")], "tokenizer": "", "document_end": 1, **data})
            run("train", job)
        self.assert_same_run("raw", "llmc")
        self.refused("train", self.job("typeless", data={"train": [str(raw)]}), names=["data.raw_type"])
        for key, value in (("raw_type", "uint16"), ("document_end", 1)):
            self.refused("train", self.job(f"needless-{key}", data={key: value}),
                         names=[f"data.{key}", "leave the key out"])
        self.refused("train", self.job("beyond", model={"vocab_size": 100}, data={
            "train": [str(llmc)], "tokenizer": ""}), names=["llmc.bin", "not in [0, 100)"])

    def test_no_rank_ever_holds_the_model(self):
        """A run that begins with a model takes no more memory than one with new weights."""
        sizes = {"vocab_size": 259, "hidden_size": 512, "intermediate_size": 2048,
                 "num_hidden_layers": 6, "num_attention_heads": 8, "num_key_value_heads": 2}
        model = self.root / "divided"
        total = synthetic_llama(model, **sizes)
        peaks = []
        for name, keys in (("fresh", {**sizes, "max_position_embeddings": 128}),
                           ("begun", {"from": str(model)})):
            job = self.job(name, training={"steps": 1, "validation_every": 0},
                           schedule={"warmup_steps": 0},
                           data={"validation_fraction": 0.0}, parallel={"zero_stage": 3})
            text = json.loads(job.read_text())
            text["model"] = keys
            job.write_text(json.dumps(text))
            peaks.append(peak_memory("train", job, ranks=4))
        self.assertLess(peaks[1], peaks[0] + total / 4, peaks)

    def test_an_import_takes_less_memory_than_the_model(self):
        """Addresses of a process are limited to less than the model's files hold."""
        model = self.root / "large"
        total = synthetic_llama(model, vocab_size=259, hidden_size=2048, intermediate_size=8192,
                                num_hidden_layers=4, num_attention_heads=16, num_key_value_heads=4)
        limit = total // 2
        self.assertGreater(total, 800 << 20)

        def limited():
            resource.setrlimit(resource.RLIMIT_AS, (limit, limit))

        out = self.root / "large-out"
        result = subprocess.run(
            harness.command(["import", model, "-o", out, "--dtype", "bf16", "--shard-size", "100MB"]),
            env=harness.environment(), preexec_fn=limited, text=True, capture_output=True, check=False)
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertEqual(self.inspect(out)["bytes"], total // 2)


# Runs a command and tells the most memory that any process below it had, in KiB.
MEASURE = """
import resource, subprocess, sys
result = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
sys.exit(result.returncode)
"""


def peak_memory(*arguments, ranks):
    result = subprocess.run([sys.executable, "-c", MEASURE, *harness.command(arguments, ranks)],
                            env=harness.environment(), text=True, capture_output=True, check=False)
    if result.returncode != 0:
        raise AssertionError(result.stdout + result.stderr)
    return int(result.stdout) << 10


def tensors_of_model(step):
    """Of a checkpoint: its weights alone."""
    return {name: tensor for name, tensor in tensors_of(step).items()
            if not name.startswith(("moment1.", "moment2.", "master."))}


def write_tensors(path, tensors):
    header, data = {}, b""
    for name, (dtype, shape, payload) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape,
                        "data_offsets": [len(data), len(data) + len(payload)]}
        data += payload
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


if __name__ == "__main__":
    unittest.main()
