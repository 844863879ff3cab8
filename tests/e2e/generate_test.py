"""generate and evaluate on runs, checkpoints and model directories; prompts of files; chats in a terminal
and through a pipe."""

import fcntl
import json
import math
import os
import pty
import select
import shutil
import signal
import struct
import subprocess
import termios
import time
import unittest

import harness
from harness import run

CONTROL = ["<|im_start|>", "<|im_end|>"]


class Texts(harness.Workspace):

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        # A tokenizer with the control tokens of ChatML, and a model of it.
        own = cls.root / "own.json"
        run("tokenize", cls.corpus, "-o", cls.root / "own.tokens", "--train-vocab", 300, "--model-out", own)
        tokenizer = json.loads(own.read_text(encoding="utf-8"))
        number = 1 + max([*tokenizer["model"]["vocab"].values()]
                         + [token["id"] for token in tokenizer["added_tokens"]])
        for content in CONTROL:
            tokenizer["added_tokens"].append({
                "id": number, "content": content, "single_word": False, "lstrip": False, "rstrip": False,
                "normalized": False, "special": True})
            number += 1
        cls.tokenizer = cls.root / "chatml"
        cls.tokenizer.mkdir()
        (cls.tokenizer / "tokenizer.json").write_text(json.dumps(tokenizer), encoding="utf-8")
        (cls.tokenizer / "tokenizer_config.json").write_text(json.dumps({"eos_token": "<|endoftext|>"}),
                                                             encoding="utf-8")
        cls.words = cls.root / "words.tokens"
        run("tokenize", cls.corpus, "-o", cls.words, "--tokenizer", cls.tokenizer)
        cls.vocabulary = number
        cls.run_of("talks", cls.words, cls.tokenizer, {"vocab_size": number})
        cls.run_of("windows", cls.tokens, "bytes", {"model_type": "mistral", "sliding_window": 24})

    @classmethod
    def run_of(cls, name, tokens, tokenizer, model):
        run("train", cls.job(name, model=model,
                             data={"train": [str(tokens)], "tokenizer": str(tokenizer)},
                             training={"steps": 4, "validation_every": 0}, checkpoint={"every": 4}))

    def refused(self, *arguments, names=(), expect=2, ranks=0):
        message = run(*arguments, expect=expect, ranks=ranks).stderr
        for name in names:
            self.assertIn(name, message, arguments)

    def prompts(self, name, text):
        path = self.root / name
        path.write_text(text, encoding="utf-8")
        return path

    def lines(self, name):
        return [json.loads(line) for line in (self.root / name).read_text(encoding="utf-8").splitlines()]


class Generate(Texts):

    def test_a_run_its_checkpoint_and_its_exports_say_the_same(self):
        step = self.root / "talks" / "checkpoints" / "step-00000004"
        arguments = ("--prompt", "they went", "--max-tokens", 30, "--seed", 3)
        expected = run("generate", self.root / "talks", *arguments).stdout
        self.assertTrue(expected.startswith("they went"))
        self.assertEqual(expected, run("generate", step, *arguments).stdout)
        sharded = self.root / "sharded"
        run("export", step, "-o", sharded, "--shard-size", "20KB")
        self.assertGreater(len(list(sharded.glob("*.safetensors"))), 2)
        self.assertEqual(expected, run("generate", sharded, *arguments).stdout)
        # float16 files are computed in float32, which is said; what was float16 stays as it was.
        half = self.root / "half"
        run("export", step, "-o", half, "--dtype", "fp16")
        again = run("generate", half, *arguments)
        self.assertIn("float16", again.stderr)
        run("import", half, "-o", self.root / "wide", "--dtype", "fp32")
        self.assertEqual(again.stdout, run("generate", self.root / "wide", *arguments).stdout)
        self.assertNotIn("float16", run("generate", half, "--dtype", "fp32", "--max-tokens", 1).stdout)

    def test_a_model_without_a_tokenizer_wants_one(self):
        model = self.root / "bare"
        run("export", self.root / "windows", "-o", model)
        (model / "tokenizer_config.json").unlink()
        self.refused("generate", model, names=["no tokenizer", "--tokenizer"])
        self.assertEqual(run("generate", model, "--tokenizer", "bytes", "--max-tokens", 5).stdout,
                         run("generate", self.root / "windows", "--max-tokens", 5).stdout)
        evaluated = run("evaluate", model, self.tokens, "--max-tokens", 200)
        self.assertIn("holds no tokenizer", evaluated.stderr)

    def test_end_tokens_are_the_tokenizers_and_the_configs(self):
        model = self.root / "ends"
        run("export", self.root / "windows", "-o", model)
        arguments = ("generate", model, "--temperature", 0, "--max-tokens", 8, "--prompt", "the")
        text = run(*arguments).stdout
        first = text[len("the"):][0].encode()[0] + 3  # the byte tokenizer's id
        settings = model / "generation_config.json"
        for ends in ([first, 1], first):
            settings.write_text(json.dumps({"eos_token_id": ends}), encoding="utf-8")
            self.assertEqual(run(*arguments).stdout, "the\n")
        settings.unlink()
        config = json.loads((model / "config.json").read_text())
        (model / "config.json").write_text(json.dumps({**config, "eos_token_id": [first]}))
        self.assertEqual(run(*arguments).stdout, "the\n")
        for bad in (-1, 259, "x", [1.5], 2**70):
            settings.write_text(json.dumps({"eos_token_id": bad}), encoding="utf-8")
            self.refused(*arguments, names=["generation_config.json", "eos_token_id"])
        settings.write_text("[]", encoding="utf-8")
        self.refused(*arguments, names=["generation_config.json"])

    def test_what_does_not_fit_is_refused_before_any_work(self):
        self.refused("generate", self.root / "talks", "--max-tokens", 128,
                     names=["max_position_embeddings, 128", "127 or less"])
        self.refused("generate", self.root / "windows", "--prompt", "x" * 200,
                     names=["201 tokens", "shorten it"])
        # Without --max-tokens a text ends where the positions do.
        prompts = self.prompts("long.txt", "x" * 100 + "\n")
        run("generate", self.root / "windows", "--prompts", prompts, "-o", self.root / "long.jsonl",
            "--seed", 5)
        completion, = self.lines("long.jsonl")[0]["completions"]
        if completion["finish"] != "end":
            self.assertEqual((completion["tokens"], completion["finish"]), (128 - 101, "context"))
        nowhere = self.root / "empty-directory"
        nowhere.mkdir()
        self.refused("generate", nowhere, names=["empty-directory", "config.json"])
        uncommitted = self.root / "uncommitted"
        shutil.copytree(self.root / "talks" / "checkpoints" / "step-00000004", uncommitted)
        (uncommitted / "manifest.json").unlink()
        self.refused("generate", uncommitted, names=["uncommitted", "no checkpoint"])
        self.refused("generate", self.root / "talks", ranks=2, names=["--prompts"])

    def test_a_damaged_model_is_told_of(self):
        model = self.root / "poisoned"
        run("export", self.root / "windows", "-o", model)
        path = model / "model.safetensors"
        data = bytearray(path.read_bytes())
        data[-4:] = struct.pack("<f", math.nan)
        path.write_bytes(data)
        for arguments in (("generate", model), ("generate", model, "--temperature", 0),
                          ("evaluate", model, self.tokens)):
            self.refused(*arguments, names=["not finite"])

    def test_stop_texts_and_likeliest_tokens(self):
        model = self.root / "windows"
        arguments = ("generate", model, "--prompt", "in", "--max-tokens", 40, "--seed", 2)
        whole = run(*arguments).stdout
        stop = whole[10:12]
        self.assertEqual(run(*arguments, "--stop", stop).stdout,
                         whole[:whole.index(stop, len("in"))] + "\n")
        self.assertEqual(run(*arguments, "--top-k", 1).stdout, run(*arguments, "--temperature", 0).stdout)
        self.assertNotEqual(whole, run(*arguments, "--repetition-penalty", 50).stdout)
        self.refused(*arguments, "--stop", "", names=["--stop"])


class Prompts(Texts):

    def test_a_line_depends_on_its_number_and_the_seed_alone(self):
        texts = ["they went", "", "in the beginning of a longer prompt", "é € 😀", "stone"]
        prompts = self.prompts("five.txt", "\n".join(texts) + "\n")
        options = ("--max-tokens", 12, "--samples", 2, "--seed", 9)
        said = run("generate", self.root / "talks", "--prompts", prompts, "-o", self.root / "five.jsonl",
                   *options)
        self.assertIn("5 prompts", said.stdout)
        found = self.lines("five.jsonl")
        self.assertEqual([line["prompt"] for line in found], texts)
        for line in found:
            self.assertEqual(len(line["completions"]), 2)
            for completion in line["completions"]:
                self.assertIn(completion["finish"], ("end", "length"))
                self.assertLessEqual(completion["tokens"], 12)
        # Other lines may be anything; as JSON, with fields that are handed on; by ranks.
        other = self.prompts("other.jsonl", "".join(
            json.dumps({"prompt": text if number in (2, 3) else "x" * number, "id": number}) + "\n"
            for number, text in enumerate(texts)))
        run("generate", self.root / "talks", "--prompts", other, "-o", self.root / "other-out.jsonl", *options)
        changed = self.lines("other-out.jsonl")
        self.assertEqual([line["id"] for line in changed], list(range(5)))
        for number in (2, 3):
            self.assertEqual(changed[number]["completions"], found[number]["completions"])
        for ranks in (2, 3):
            run("generate", self.root / "talks", "--prompts", prompts, "-o",
                self.root / f"ranks-{ranks}.jsonl", *options, ranks=ranks)
            self.assertEqual((self.root / f"ranks-{ranks}.jsonl").read_bytes(),
                             (self.root / "five.jsonl").read_bytes())
        # The first is what generate alone gives, sample by sample.
        alone = run("generate", self.root / "talks", "--prompt", texts[0], *options[:2], *options[4:]).stdout
        self.assertEqual(alone, texts[0] + found[0]["completions"][0]["text"] + "\n")

    def test_chats_of_a_file(self):
        chat = [{"role": "system", "content": "be brief"}, {"role": "user", "content": "light?"}]
        prompts = self.prompts("chats.jsonl", json.dumps({"messages": chat}) + "\n"
                               + json.dumps({"prompt": "light"}) + "\n")
        run("generate", self.root / "talks", "--prompts", prompts, "-o", self.root / "chats-out.jsonl",
            "--max-tokens", 10)
        first, second = self.lines("chats-out.jsonl")
        self.assertEqual(first["messages"], chat)
        self.assertEqual(len(first["completions"]), 1)
        self.assertEqual(second["prompt"], "light")
        bad = [
            ({"messages": chat[:1] + [{"role": "tool", "content": "x"}]}, ["tool"]),
            ({"messages": chat + [{"role": "assistant", "content": "x"}]}, ["assistant"]),
            ({"messages": []}, ["messages"]),
            ({"messages": [{"role": "user"}]}, ["content"]),
            ({"messages": ["x"]}, ["role"]),
            ({"messages": chat, "prompt": "x"}, ["either"]),
        ]
        for line, names in bad:
            prompts = self.prompts("bad.jsonl", json.dumps({"prompt": "x"}) + "\n" + json.dumps(line) + "\n")
            self.refused("generate", self.root / "talks", "--prompts", prompts, "-o", self.root / "bad-out.jsonl",
                         names=["bad.jsonl:2", *names])
        self.refused("generate", self.root / "windows", "--prompts", self.prompts("c.jsonl", json.dumps(
            {"messages": chat})), "-o", self.root / "bad-out.jsonl", names=["--chat-template", "chatml"])
        self.assertFalse((self.root / "bad-out.jsonl").exists())

    def test_bad_files_are_refused(self):
        out = self.root / "none.jsonl"
        for text, names in ((b"", ["is empty"]), (b"{}\n", [":1", "prompt"]), (b'{"prompt": 3}\n', ["prompt"]),
                            (b'{"prompt": "a"}\n\n', [":2"]), (b"[" * 100000, [":1"]), (b"\xff\xfe\n", [":1"]),
                            (b'{"prompt": "a", "completions": []}\n', ["completions"])):
            path = self.root / "bad.jsonl"
            path.write_bytes(text)
            self.refused("generate", self.root / "talks", "--prompts", path, "-o", out, names=names)
        good = self.prompts("good.txt", "a\nb\n")
        long = self.prompts("toolong.txt", "a\n" + "salt " * 300 + "\n")
        self.refused("generate", self.root / "talks", "--prompts", long, "-o", out, names=["toolong.txt:2"])
        self.refused("generate", self.root / "talks", "--prompts", long, "-o", out, ranks=2,
                     names=["toolong.txt:2"])
        self.refused("generate", self.root / "talks", "--prompts", good, names=["--output"])
        self.refused("generate", self.root / "talks", "-o", out, names=["--prompts"])
        self.refused("generate", self.root / "talks", "--prompts", good, "--prompt", "x", "-o", out)
        self.refused("generate", self.root / "talks", "--prompts", good, "-o", self.root / "no" / "x.jsonl",
                     names=["x.jsonl"])
        self.refused("generate", self.root / "talks", "--chat-template", "chatml", names=["--chat"])
        self.assertFalse(out.exists())
        out.write_text("mine")
        self.refused("generate", self.root / "talks", "--prompts", good, "-o", out, names=["new file"])
        self.assertEqual(out.read_text(), "mine")

    def test_a_run_that_is_killed_leaves_nothing_under_the_name(self):
        prompts = self.prompts("many.txt", "they went\n" * 20000)
        out = self.root / "many.jsonl"
        process = harness.start("generate", self.root / "talks", "--prompts", prompts, "-o", out)
        part = self.root / "many.jsonl.part"
        while process.poll() is None and not (part.exists() and part.stat().st_size > 0):
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        self.assertFalse(out.exists())
        self.assertIn("completions", json.loads(part.read_text(encoding="utf-8").splitlines()[0]))


class Terminal:
    """The program on a terminal of its own."""

    def __init__(self, test, *arguments):
        self.master, slave = pty.openpty()
        # Ctrl-C throws away what is not read yet, which may be the next prompt already.
        modes = termios.tcgetattr(slave)
        modes[3] |= termios.NOFLSH
        termios.tcsetattr(slave, termios.TCSANOW, modes)
        self.process = subprocess.Popen(
            harness.command(arguments), env=harness.environment(), stdin=slave, stdout=slave,
            stderr=slave, start_new_session=True, preexec_fn=lambda: self.take(slave))
        os.close(slave)
        self.text = b""
        test.addCleanup(self.stop)

    @staticmethod
    def take(slave):
        fcntl.ioctl(slave, termios.TIOCSCTTY, 0)

    def read_until(self, mark):
        """What comes up to `mark`, which ends it; what came with it is kept for the next reading."""
        mark = mark.encode()
        while mark not in self.text:
            ready, _, _ = select.select([self.master], [], [], 60)
            if not ready:
                raise AssertionError(f"no {mark!r} after {self.text!r}")
            try:
                more = os.read(self.master, 65536)
            except OSError:  # the other end is closed
                more = b""
            if not more:
                raise AssertionError(f"ended before {mark!r}: {self.text!r}")
            self.text += more
        text, mark, self.text = self.text.partition(mark)
        return (text + mark).decode(errors="replace")

    def write(self, text):
        os.write(self.master, text.encode())

    def end(self):
        return self.process.wait(timeout=60)

    def stop(self):
        self.process.kill()
        self.process.wait()
        os.close(self.master)


class Chat(Texts):
    OPTIONS = ("--chat", "--max-tokens", 12, "--seed", 4)

    def chat(self, lines, *options):
        arguments = harness.command(["generate", self.root / "talks", *(options or self.OPTIONS)])
        result = subprocess.run(arguments, env=harness.environment(), input=lines.encode(),
                                capture_output=True, check=False)
        self.assertEqual(result.returncode, 0, result.stderr)
        return result.stdout.decode("utf-8"), result.stderr.decode()

    def test_a_pipe_gives_answers_alone(self):
        answers, errors = self.chat("in the beginning\nthey went\n")
        self.assertNotIn("> ", answers)
        self.assertEqual(errors, "")
        self.assertTrue(answers.endswith("\n"))
        # The first answer is that of a file's chat with the same seed, but for where draws begin;
        # greedy, it is the same.
        greedy = ("--chat", "--max-tokens", 12, "--temperature", 0)
        first, _ = self.chat("in the beginning", *greedy)
        prompts = self.prompts("one.jsonl", json.dumps(
            {"messages": [{"role": "user", "content": "in the beginning"}]}))
        out = self.root / "one-out.jsonl"
        out.unlink(missing_ok=True)
        run("generate", self.root / "talks", "--prompts", prompts, "-o", out, "--max-tokens", 12,
            "--temperature", 0)
        self.assertEqual(first, self.lines("one-out.jsonl")[0]["completions"][0]["text"] + "\n")
        # The second turn sees the first, as if all were given at once.
        both, _ = self.chat("in the beginning\nthey went\n", *greedy)
        self.assertTrue(both.startswith(first))
        prompts.write_text(json.dumps({"messages": [
            {"role": "user", "content": "in the beginning"},
            {"role": "assistant", "content": first[:-1]},
            {"role": "user", "content": "they went"}]}))
        out.unlink()
        run("generate", self.root / "talks", "--prompts", prompts, "-o", out, "--max-tokens", 12,
            "--temperature", 0)
        self.assertEqual(both, first + self.lines("one-out.jsonl")[0]["completions"][0]["text"] + "\n")

    def test_commands_and_the_system(self):
        first, _ = self.chat("light\n")
        twice, _ = self.chat("light\n/reset\nlight\n")
        self.assertEqual(twice, first + first)
        self.assertEqual(self.chat("light\n/exit\nlight\n")[0], first)
        self.assertEqual(self.chat("\nlight\n\n")[0], first)
        self.assertEqual(self.chat("light")[0], first)
        self.assertNotEqual(self.chat("light\n", *self.OPTIONS, "--system", "salt and bread")[0], first)
        answers, errors = self.chat("/quit\nlight\n")
        self.assertEqual(answers, first)
        self.assertIn("/quit", errors)
        self.assertEqual(self.chat("light\n", *self.OPTIONS, "--chat-template", "chatml")[0], first)

    def test_a_full_context_is_told(self):
        answers, errors = self.chat("salt " * 200 + "\nlight\n")
        self.assertIn("context is full", errors)
        self.assertIn("/reset", errors)
        self.assertEqual(answers, self.chat("light\n")[0])  # the turn was not taken
        answers, errors = self.chat("light\n", "--chat", "--seed", 4)
        if "128 tokens is full" not in errors:
            self.assertLess(len(answers), 2000)

    def test_a_terminal(self):
        terminal = Terminal(self, "generate", self.root / "talks", *self.OPTIONS)
        self.assertIn("chatml", terminal.read_until("\r\n> "))
        terminal.write("light\n")
        said = terminal.read_until("\r\n> ")
        expected, _ = self.chat("light\n")
        self.assertEqual(said.replace("\r\n", "\n"), "light\n" + expected + "> ")
        terminal.write("/reset\n")
        self.assertIn("begins anew", terminal.read_until("\r\n> "))
        terminal.write("light\n")
        self.assertEqual(terminal.read_until("\r\n> ").replace("\r\n", "\n"), "light\n" + expected + "> ")
        terminal.write("\x04")
        self.assertEqual(terminal.end(), 0)

    def test_ctrl_c_ends_an_answer_and_then_the_program(self):
        # Room for a long answer, and a model that has learned no end.
        job = self.job("endless", model={"vocab_size": self.vocabulary, "max_position_embeddings": 1000000},
                       data={"train": [str(self.words)], "tokenizer": str(self.tokenizer)},
                       training={"steps": 1, "validation_every": 0}, schedule={"warmup_steps": 0},
                       checkpoint={"every": 1})
        run("train", job)
        terminal = Terminal(self, "generate", self.root / "endless", "--chat", "--temperature", 0)
        terminal.read_until("\r\n> ")
        terminal.write("light\n")
        terminal.read_until("light\r\n")
        time.sleep(0.5)
        terminal.write("\x03")
        terminal.read_until("\r\n> ")
        terminal.write("\x03")
        self.assertEqual(terminal.end(), -signal.SIGINT)

    def test_models_that_cannot_chat(self):
        self.refused("generate", self.root / "windows", "--chat", names=["--chat-template", "chatml"])
        self.refused("generate", self.root / "windows", "--chat", "--chat-template", "chatml",
                     names=["<|im_"])
        self.refused("generate", self.root / "talks", "--chat", "--prompt", "x")
        self.refused("generate", self.root / "talks", "--chat", "--samples", 2)
        self.refused("generate", self.root / "talks", "--system", "x", names=["--chat"])
        self.refused("generate", self.root / "talks", "--chat", ranks=2, names=["--prompts"])


class Evaluate(Texts):

    def evaluate(self, *arguments, **keys):
        return json.loads(run("evaluate", *arguments, "--json", "-", **keys).stdout)

    def test_it_is_the_runs_validation_loss(self):
        """Rows of the trainer's validation are windows of the same documents."""
        held_out = self.root / "held-out.jsonl"
        held_out.write_text("".join(self.corpus.read_text().splitlines(keepends=True)[:20]))
        tokens = self.root / "held-out.tokens"
        run("tokenize", held_out, "-o", tokens, "--tokenizer", "bytes")
        job = self.job("validated", training={"steps": 2, "validation_every": 2},
                       data={"validation": [str(tokens)], "validation_fraction": 0.0},
                       schedule={"warmup_steps": 0}, checkpoint={"every": 2})
        run("train", job)
        expected = [row for row in self.metrics("validated") if "validation_loss" in row][-1]
        for model in ("validated", "validated/checkpoints/step-00000002"):
            found = self.evaluate(self.root / model, tokens, "--context-length", 128)
            self.assertAlmostEqual(found["loss"], expected["validation_loss"], delta=2e-6)
            self.assertAlmostEqual(found["bits_per_byte"], expected["bits_per_byte"], delta=1e-5)
            self.assertAlmostEqual(found["perplexity"], math.exp(found["loss"]), delta=1e-9)
            self.assertEqual(sum(one["targets"] for one in found["positions"]), found["targets"])
            self.assertAlmostEqual(sum(one["nll"] for one in found["positions"]), found["nll"], delta=1e-6)

    def test_ranks_files_and_pictures(self):
        model = self.root / "windows"
        options = ("--context-length", 100, "--stride", 40)
        alone = run("evaluate", model, self.tokens, *options, "--json", "-").stdout
        for ranks in (2, 4):
            self.assertEqual(alone, run("evaluate", model, self.tokens, *options, "--json", "-",
                                        ranks=ranks).stdout)
        file, picture = self.root / "figures.json", self.root / "loss.svg"
        said = run("evaluate", model, self.tokens, *options, "--json", file, "--picture", picture).stdout
        figures = json.loads(file.read_text())
        self.assertEqual(figures, json.loads(alone))
        self.assertIn(f"{figures['loss']:.6f}", said)
        self.assertIn("64-99", said)
        self.assertTrue(picture.read_text(encoding="utf-8").startswith("<svg"))
        half = self.evaluate(model, self.tokens, *options, "--precision", "fp64")
        self.assertAlmostEqual(half["loss"], figures["loss"], delta=1e-5)
        # Past the model's positions, which rotary ones allow.
        beyond = run("evaluate", model, self.tokens, "--context-length", 256)
        self.assertIn("max_position_embeddings", beyond.stderr)

    def test_files_of_tokens_alone(self):
        raw = self.root / "raw.bin"
        ids = [1, *(byte + 3 for byte in b"in the beginning"), 1, *(byte + 3 for byte in b"salt"), 1]
        raw.write_bytes(struct.pack(f"<{len(ids)}H", *ids))
        model = self.root / "windows"
        found = self.evaluate(model, raw, "--raw-type", "uint16")
        self.assertEqual((found["documents"], found["targets"]), (1, len(ids) - 1))
        self.assertIsNone(found["bits_per_byte"])
        found = self.evaluate(model, raw, "--raw-type", "uint16", "--document-end", 1)
        self.assertEqual((found["documents"], found["targets"]), (3, len(ids) - 3))
        self.refused("evaluate", model, raw, names=["raw_type"])

    def test_what_is_refused(self):
        model = self.root / "windows"
        self.refused("evaluate", model, self.words, names=["another tokenizer", "words.tokens"])
        self.refused("evaluate", model, self.words, ranks=2, names=["another tokenizer"])
        self.refused("evaluate", self.root / "talks", self.tokens, names=["another tokenizer"])
        self.refused("evaluate", self.root / "talks", self.words, "--tokenizer", "bytes",
                     names=["another tokenizer", "bytes"])
        self.refused("evaluate", model, self.root / "no.tokens", names=["no.tokens"])
        self.refused("evaluate", model, names=["files"])
        self.refused("evaluate", model, self.tokens, "--stride", 300, names=["--stride"])
        self.refused("evaluate", model, self.tokens, "--context-length", 0)
        self.refused("evaluate", model, self.tokens, "--raw-type", "uint16", names=["--raw-type"])
        self.refused("evaluate", model, self.tokens, "--picture", self.root / "no" / "x.svg", names=["x.svg"])
        self.refused("evaluate", self.tokens, self.tokens, names=["corpus.tokens"])


if __name__ == "__main__":
    unittest.main()
