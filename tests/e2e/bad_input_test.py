"""Whatever is wrong with the input ends with the documented exit code and a message of the cause."""

import json
import os
import pathlib
import shutil
import struct
import unittest

import harness
from harness import run

BAD_INPUT, OUT_OF_MEMORY, DAMAGED = 2, 3, 5


class Refusals(harness.Workspace):

    def refused(self, *arguments, expect=BAD_INPUT, names=(), ranks=0):
        """The program ends with `expect` and says each of `names`, once, without a crash."""
        result = run(*arguments, expect=None, ranks=ranks)
        said = result.stderr
        self.assertEqual(result.returncode, expect, f"{arguments}\n{result.stdout}\n{said}")
        for name in names:
            self.assertIn(name, said, arguments)
        for sign in ("AddressSanitizer", "runtime error", "terminate called", "Segmentation"):
            self.assertNotIn(sign, said, arguments)
        return said


class BadInput(Refusals):

    def job_with(self, **changes):
        return self.job("bad", **changes)

    def test_job_file(self):
        """Changes to a good job, and what the message must name."""
        cases = [
            ({"optimizer": {"learning_rat": 1e-3}}, ["optimizer.learning_rat", "learning_rate"]),
            ({"optimzer": {"learning_rate": 1e-3}}, ["optimzer", "optimizer"]),
            ({"training": {"precison": "fp32"}}, ["training.precison", "training.precision"]),
            ({"model": {"heads": 4}}, ["model.heads"]),
            ({"training": {"steps": "many"}}, ["training.steps", "many"]),
            ({"training": {"steps": 2.5}}, ["training.steps", "2.5"]),
            ({"training": {"steps": -1}}, ["training.steps", "-1"]),
            ({"training": {"steps": None}}, ["training.steps"]),
            ({"training": {"precision": "fp8"}}, ["training.precision", "fp8", "bf16"]),
            ({"model": {"tie_word_embeddings": "yes"}}, ["model.tie_word_embeddings"]),
            ({"model": {"num_attention_heads": 5}}, ["model.num_attention_heads"]),
            ({"model": {"num_key_value_heads": 3}}, ["num_key_value_heads 3"]),
            ({"model": {"head_dim": 7}}, ["model.head_dim"]),
            ({"model": {"hidden_size": 0}}, ["model.hidden_size"]),
            ({"model": {"rms_norm_eps": -1e-5}}, ["model.rms_norm_eps"]),
            ({"model": {"vocab_size": 100}}, ["vocab_size", "259"]),
            ({"training": {"tokens_per_step": 500}}, ["training.tokens_per_step", "128"]),
            ({"training": {"micro_batch_tokens": 256}},
             ["training.micro_batch_tokens", "model.max_position_embeddings"]),
            ({"schedule": {"name": "cosin"}}, ["schedule.name", "cosine"]),
            ({"schedule": {"name": "wsd"}}, ["schedule.decay_steps"]),
            ({"schedule": {"decay_steps": 5}}, ["schedule.decay_steps"]),
            ({"schedule": {"warmup_steps": 100}}, ["schedule.warmup_steps"]),
            ({"optimizer": {"beta2": 1.0}}, ["optimizer.beta2"]),
            ({"optimizer": {"learning_rate": 0}}, ["optimizer.learning_rate"]),
            ({"data": {"train": []}}, ["data.train"]),
            ({"data": {"train": "corpus.tokens"}}, ["data.train"]),
            ({"data": {"packing": "padded"}}, ["data.packing", "padded"]),
            ({"data": {"validation_fraction": 1.5}}, ["data.validation_fraction"]),
            ({"data": {"validation": [str(self.tokens)]}}, ["data.validation_fraction"]),
            ({"run": {"device": "tpu"}}, ["run.device", "tpu"]),
            ({"memory": {"limit": "2 gigs"}}, ["memory.limit"]),
            ({"memory": {"activation_checkpointing": "blok"}}, ["blok", "block_keep_attention"]),
            ({"memory": {"activation_checkpointing": "0-9: block"}}, ["layers 0-9", "0-1"]),
            ({"memory": {"mini_sequence": {"mlp": 0}}}, ["memory.mini_sequence.mlp", "64MiB"]),
            ({"memory": {"mini_sequence": {"lm_head": "none"}}}, ["mini_sequence.lm_head", "none"]),
            ({"memory": {"mini_sequence": {"lm_hed": "auto"}}}, ["mini_sequence.lm_hed", "lm_head"]),
            ({"memory": {"mini_sequence": "auto"}}, ["memory.mini_sequence"]),
            ({"run": {"device_profile": "h300"}}, ["h300", "h200"]),
            ({"run": {"device_profile": "h200"}}, ["run.device_profile", "run.device"]),
            ({"optimizer": {"offload": "host"}}, ["optimizer.offload", "host memory"]),
            ({"optimizer": {"offload": "nvme"}}, ["optimizer.offload", "nvme", "host"]),
            ({"optimizer": {"cpu_offload": True}}, ["optimizer.cpu_offload", "optimizer.offload"]),
            ({"parallel": {"data": 2}}, ["parallel.data"]),
            ({"parallel": {"zero_stage": 4}}, ["parallel.zero_stage", "[0, 3]"]),
            ({"parallel": {"zero_stage": "3"}}, ["parallel.zero_stage"]),
            ({"parallel": {"fsdp": 3}}, ["parallel.fsdp", "parallel.zero_stage"]),
            ({"checkpoint": {"keep_last": -3}}, ["checkpoint.keep_last"]),
            ({"checkpoint": {"resume": str(self.root / "nowhere")}}, ["nowhere", "manifest.json"]),
        ]
        for changes, names in cases:
            self.refused("train", self.job_with(**changes), names=names)
            self.assertFalse((self.root / "bad").exists() and
                             list((self.root / "bad").glob("checkpoints/step-*")))

    def test_job_text(self):
        path = self.root / "text.json"
        cases = [
            (b"", []), (b"{", []), (b"[]", []), (b"null", []), (b"{} {}", []),
            (b'{"run": {"name": "a", "name": "b"}}', ["name"]),
            (b'{"run": {"seed": 1e999}}', []),
            (b'{"run": // no comments\n {}}', []),
            (b'\xff\xfe{"run": {}}', []),
            (b"[" * 200000, []),
            (b'{"run": 5}', ["run"]),
        ]
        for text, names in cases:
            path.write_bytes(text)
            self.refused("train", path, names=["text.json"] + names)
        self.refused("train", self.root / "missing.json", names=["missing.json"])
        self.refused("train", self.root, names=[str(self.root)])

    def test_command_line(self):
        good = self.job_with()
        self.refused("train", good, "--set", "optimizer.learning_rate", names=["learning_rate"])
        self.refused("train", good, "--set", "optimizer.lr=1", names=["optimizer.lr"])
        self.refused("train", good, "--set", "training.steps=none", names=["training.steps"])
        self.refused("train", good, "--until-step", "0", names=["--until-step"])
        self.refused("train", good, "--trace-steps", "2", names=["--trace-steps", "--trace"])
        self.refused("train", good, "--trace", "t.json", "--trace-steps", "0", names=["--trace-steps"])
        self.refused("train", good, "--trace", "", names=["--trace"])
        self.refused("train", names=["job"])
        self.refused("trian", good)
        self.refused()
        self.refused("generate", self.root / "nothing", names=["nothing"])
        self.refused("tokenize", self.corpus, names=["--output"])

    def test_token_files(self):
        def job_for(contents):
            path = self.root / "broken.tokens"
            path.write_bytes(contents)
            return self.job_with(data={"train": [str(path)]})

        good = self.tokens.read_bytes()
        for size in (0, 1, 8, 30, 63, 64, 100, len(good) // 2, len(good) - 1):
            self.refused("train", job_for(good[:size]), names=["broken.tokens"])
        self.refused("train", job_for(b"X" * len(good)), names=["broken.tokens"])
        self.refused("train", job_for(self.corpus.read_bytes()), names=["broken.tokens"])
        self.refused("train", self.job_with(data={"train": [str(self.root / "no.tokens")]}),
                     names=["no.tokens"])
        # A token that the vocabulary does not have, in a format that carries no vocabulary.
        prefix = self.root / "wild"
        run("tokenize", self.corpus, "--output", prefix, "--format", "megatron")
        data = bytearray(pathlib.Path(f"{prefix}.bin").read_bytes())
        data[-2:] = struct.pack("<H", 9999)
        pathlib.Path(f"{prefix}.bin").write_bytes(data)
        self.refused("train", self.job_with(data={"train": [f"{prefix}.bin"]}), names=["9999"])
        index = pathlib.Path(f"{prefix}.idx")
        index.write_bytes(index.read_bytes()[:-5])
        self.refused("train", self.job_with(data={"train": [f"{prefix}.bin"]}), names=["wild.idx"])
        # Nothing to hold out of a single document.
        single = self.root / "single.txt"
        single.write_text("one document of a few words", encoding="utf-8")
        run("tokenize", single, "--output", self.root / "single.tokens", "--tokenizer", "bytes")
        self.refused("train", self.job_with(data={"train": [str(self.root / "single.tokens")]}),
                     names=["data.validation_fraction"])

    def test_tokenizers(self):
        model, tokens = self.root / "pieces.model", self.root / "pieces.tokens"
        run("tokenize", self.corpus, "--output", tokens, "--train-vocab", 300, "--model-out", model)
        wide = {"vocab_size": 512}
        self.refused("train", self.job_with(data={"train": [str(tokens)]}, model=wide),
                     names=["pieces.tokens", "tokenizer"])
        self.refused("train", self.job_with(data={"train": [str(tokens), str(self.tokens)]},
                                            model=wide), names=["different tokenizers"])
        self.refused("train", self.job_with(data={"tokenizer": str(self.root / "no.model")}),
                     names=["no.model"])
        broken = self.root / "broken.model"
        broken.write_bytes(model.read_bytes()[:1000])
        self.refused("train", self.job_with(data={"tokenizer": str(broken)}),
                     names=["broken.model"])
        self.refused("tokenize", self.root / "absent.txt", "--output", self.root / "out.tokens",
                     names=["absent.txt"])
        lines = self.root / "lines.jsonl"
        for text, names in (('{"text": "a"}\n{"text": 5}\n', ["lines.jsonl", "2"]),
                            ('{"text": "a"}\n{"body": "b"}\n', ["lines.jsonl", "2", "text"]),
                            ('{"text": "a"}\n{"text": \n', ["lines.jsonl", "2"])):
            lines.write_text(text, encoding="utf-8")
            self.refused("tokenize", lines, "--output", self.root / "out.tokens", names=names)
        self.assertFalse((self.root / "out.tokens").exists())

    def test_directories(self):
        blocked = self.root / "a-file"
        blocked.write_text("in the way", encoding="utf-8")
        self.refused("train", self.job_with(run={"output_dir": str(blocked / "run")}),
                     names=["a-file"])
        self.refused("train", self.job_with(run={"output_dir": "/proc/longspan"}),
                     names=["/proc/longspan"])
        self.refused("tokenize", self.corpus, "--output", "/proc/out.tokens", names=["/proc"])

    def test_trace_is_refused_before_anything_is_trained(self):
        good = self.job_with(run={"output_dir": str(self.root / "untrained")})
        blocked = self.root / "another-file"
        blocked.write_text("in the way", encoding="utf-8")
        for path in (self.root / "missing" / "t.json", blocked / "t.json", "/proc/t.json", self.root,
                     f"{self.root}/"):
            for options in ([], ["--dry-run"]):
                self.refused("train", good, "--trace", path, *options, names=[f'--trace "{path}"'])
        said = self.refused("train", good, "--trace", self.root / "missing" / "t.json", ranks=2)
        self.assertEqual(said.count("--trace"), 1)
        self.assertFalse((self.root / "untrained").exists())

    def test_memory(self):
        job = self.job_with(memory={"limit": "64KiB"})
        self.refused("train", job, expect=OUT_OF_MEMORY, names=["memory.limit", "weights"])
        job = self.job_with(memory={"limit": "600KiB"})
        self.refused("train", job, expect=OUT_OF_MEMORY, names=["memory.limit", "optimizer"])

    def test_many_ranks_tell_once(self):
        job = self.job_with(data={"train": [str(self.root / "no.tokens")]})
        said = self.refused("train", job, ranks=2, names=["no.tokens"])
        self.assertEqual(said.count("no.tokens"), 1)
        job = self.job_with(training={"tokens_per_step": 128}, parallel={"data": 2})
        self.refused("train", job, ranks=2, names=["tokens_per_step"])


class DamagedCheckpoint(Refusals):

    def setUp(self):
        self.trained = self.job("trained", checkpoint={"every": 10, "keep_last": 2})
        run("train", self.trained, "--until-step", 10)
        self.step = self.root / "trained" / "checkpoints" / "step-00000010"

    def tearDown(self):
        shutil.rmtree(self.root / "trained")

    def damage(self, name, at=None, contents=None):
        path = self.step / name
        data = bytearray(path.read_bytes())
        if contents is None:
            data[at if at is not None else len(data) // 2] ^= 4
        path.write_bytes(data if contents is None else contents)

    def test_damaged_files_are_found(self):
        for name in ("model.safetensors", "optimizer.safetensors", "config.json", "trainer.json",
                     "manifest.json"):
            kept = (self.step / name).read_bytes()
            self.damage(name)
            self.refused("train", self.trained, expect=DAMAGED, names=[name])
            self.damage(name, contents=kept[:len(kept) // 2])
            self.refused("train", self.trained, expect=DAMAGED, names=[name])
            (self.step / name).write_bytes(kept)
        (self.step / "model.safetensors").rename(self.root / "aside")
        self.refused("train", self.trained, expect=DAMAGED, names=["model.safetensors"])
        self.refused("generate", self.root / "trained", expect=DAMAGED,
                     names=["model.safetensors"])

    def test_an_older_checkpoint_serves(self):
        run("train", self.trained)
        newest = self.root / "trained" / "checkpoints" / "step-00000020" / "model.safetensors"
        data = bytearray(newest.read_bytes())
        data[-1] ^= 1
        newest.write_bytes(data)
        result = run("train", self.trained)
        self.assertIn("step 20 is damaged", result.stderr)
        self.assertIn("resumed after step 10", result.stdout)

    def test_another_job_is_refused(self):
        def changed(**changes):
            settings = {"checkpoint": {"every": 10, "keep_last": 2}}
            for section, keys in changes.items():
                settings.setdefault(section, {}).update(keys)
            return self.job("trained", **settings)

        self.refused("train", changed(model={"hidden_size": 64}), names=["model."])
        self.refused("train", changed(model={"num_hidden_layers": 3}), names=["tensors"])
        self.refused("train", changed(training={"precision": "bf16"}), names=["float32"])
        self.refused("train", changed(run={"seed": 6}), names=["seed"])
        self.refused("train", changed(training={"tokens_per_step": 1024}), names=["tokens a step"])
        self.refused("train", changed(checkpoint={"resume": "never"}), names=["never"])


if __name__ == "__main__":
    unittest.main()
