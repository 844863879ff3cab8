"""Training on clips: the same at every layout, resumed exactly, planned to the byte; data and refusals."""

import json
import struct
import unittest

import harness
from harness import run

STEP = "checkpoints/step-00000010"


def write_npy(path, shape, numbers, descr="<f4", code="f"):
    """An array in NumPy's format."""
    header = repr({"descr": descr, "fortran_order": False, "shape": tuple(shape)})
    header += " " * (63 - (len(header) + 10) % 64) + "\n"
    path.write_bytes(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode() +
                     struct.pack(f"<{len(numbers)}{code}", *numbers))


def moving_dots(clips, frames, side):
    """Of each clip a bright point that moves to the right."""
    numbers = []
    for clip in range(clips):
        for frame in range(frames):
            for y in range(side):
                for x in range(side):
                    numbers.append(1.0 if (y, x) == (clip % side, (clip + frame) % side) else -1.0)
    return numbers


class Clips(harness.Workspace):

    def clips(self, name, **changes):
        """A small job of clips whose extents no layout divides."""
        job = {
            "run": {"name": name, "output_dir": str(self.root / name), "seed": 5},
            "model": {"model_type": "spatial_temporal", "hidden_size": 32, "num_hidden_layers": 2,
                      "num_attention_heads": 4, "intermediate_size": 64},
            "data": {"clips": "sprites", "validation_clips": 3,
                     "sprites": {"clips": 40, "shapes": ["5x6x10", "3x8x8"]}},
            "optimizer": {"learning_rate": 3e-3},
            "schedule": {"warmup_steps": 3},
            "training": {"steps": 10, "clips_per_step": 6, "clips_per_micro_batch": 2,
                         "validation_every": 5},
            "checkpoint": {"every": 5},
            "logging": {"every": 5, "peak_tflops": 1.0},
        }
        return self.write_job(name, job, changes)

    def assert_same_losses(self, one, other, steps=10):
        first = [row for row in self.metrics(one) if row["step"] <= steps]
        second = self.metrics(other)
        self.assertEqual(len(first), len(second))
        for expected, found in zip(first, second):
            for key in ("step", "tokens"):
                self.assertEqual(expected.get(key), found.get(key))
            for key in ("loss", "grad_norm", "validation_loss", "psnr", "copy_psnr"):
                self.assertEqual(key in expected, key in found)
                if key in expected:
                    self.assertAlmostEqual(expected[key], found[key], delta=2e-4 * abs(expected[key]))

    def test_every_layout_gives_the_same_losses(self):
        for objective in ("next_frame", "rectified_flow"):
            alone = f"alone-{objective}"
            training = {"objective": objective, "steps": 6}
            model = {"num_classes": 3} if objective == "rectified_flow" else {}
            run("train", self.clips(alone, training=training, model=model))
            layouts = [
                (2, {"data": 2, "zero_stage": 3}, {}),  # of three micro-batches
                (3, {"sequence": 3, "zero_stage": 2}, {"activation_checkpointing": "block"}),
                (4, {"sequence": 2, "zero_stage": 3}, {}),
                (4, {"sequence": 4, "zero_stage": 3, "sequence_placement": "frames"},
                 {"activation_checkpointing": "block"})]
            if objective == "next_frame":
                layouts += [
                    (2, {"sequence": 2, "sequence_placement": "places"}, {}),
                    (2, {"sequence": 2, "sequence_mode": "ulysses"}, {}),
                    (4, {"sequence": 4, "sequence_mode": "ulysses_flattened"}, {}),
                    (3, {"sequence": 3, "sequence_mode": "ring"}, {})]
            for number, (ranks, parallel, memory) in enumerate(layouts):
                with self.subTest(objective=objective, ranks=ranks, parallel=parallel):
                    name = f"{objective}-{number}"
                    run("train", self.clips(name, training=training, model=model,
                                            parallel=parallel, memory=memory), ranks=ranks)
                    self.assert_same_losses(alone, name)

    def test_clips_of_a_micro_batch_may_be_any_number(self):
        for size in (1, 3, 6):
            run("train", self.clips(f"by-{size}", training={"clips_per_micro_batch": size}))
            self.assert_same_losses("by-1", f"by-{size}")

    def test_a_resumed_run_is_the_straight_one(self):
        for number, (ranks, changes) in enumerate((
                (0, {}), (2, {"training": {"precision": "bf16"}, "parallel": {"zero_stage": 3}}))):
            straight, resumed = f"straight-{number}", f"resumed-{number}"
            run("train", self.clips(straight, **changes), ranks=ranks)
            job = self.clips(resumed, **changes)
            run("train", job, "--until-step", 5, ranks=ranks)
            self.assertIn("resumed after step 5", run("train", job, ranks=ranks).stdout)
            self.assert_same_run(straight, resumed)
        run("train", self.clips("moved", parallel={"sequence": 3, "zero_stage": 2},
                                checkpoint={"resume": str(self.root / "straight-0" /
                                                          "checkpoints/step-00000005")}), ranks=3)
        straight, moved = self.losses("straight-0"), self.losses("moved")
        self.assertEqual(sorted(moved), [6, 7, 8, 9, 10])
        for step, loss in moved.items():
            self.assertAlmostEqual(loss, straight[step], delta=2e-4 * loss)

    def test_a_checkpoint_of_other_clips_or_another_model_is_refused(self):
        run("train", self.clips("first"))
        resume = {"resume": str(self.root / "first" / STEP)}
        for word, changes in (("other samples", {"training": {"clips_per_step": 4}}),
                              ("another model", {"model": {"rope_theta": 100.0}}),
                              ("another model", {"training": {"objective": "rectified_flow"}})):
            changes.setdefault("training", {})["steps"] = 20
            refused = run("train", self.clips("second", checkpoint=resume, **changes), expect=2)
            self.assertIn(word, refused.stderr)
        text = self.job("text", checkpoint=resume)
        self.assertIn("is", run("train", text, expect=2).stderr)

    def test_what_a_model_learns_beats_copying(self):
        job = self.clips("learns", data={"sprites": {"clips": 200, "shapes": ["6x8x8"]}},
                         model={"hidden_size": 64, "intermediate_size": 128},
                         optimizer={"learning_rate": 5e-3, "weight_decay": 0.0},
                         training={"steps": 200, "clips_per_step": 8, "clips_per_micro_batch": 8,
                                   "validation_every": 50}, checkpoint={"every": 0})
        shown = run("train", job, threads=2).stdout
        rows = [row for row in self.metrics("learns") if "psnr" in row]
        self.assertEqual([row["step"] for row in rows], [50, 100, 150, 200])
        self.assertGreater(rows[-1]["psnr"], rows[0]["psnr"])
        self.assertGreater(rows[-1]["psnr"], rows[-1]["copy_psnr"] + 1)
        self.assertEqual(len({row["copy_psnr"] for row in rows}), 1)
        self.assertIn(f"PSNR {rows[-1]['psnr']:.2f} dB", shown)

    def test_arrays_of_files(self):
        write_npy(self.root / "many.npy", [9, 5, 1, 4, 4], moving_dots(9, 5, 4))
        write_npy(self.root / "one.npy", [3, 1, 6, 4], moving_dots(1, 3, 6)[:72], "<f8", "d")
        grey = [255 if number > 0 else 0 for number in moving_dots(4, 5, 4)]
        write_npy(self.root / "bytes.npy", [4, 5, 1, 4, 4], grey, "|u1", "B")
        files = [str(self.root / name) for name in ("many.npy", "one.npy", "bytes.npy")]
        data = {"clips": files, "validation_clips": 4}

        def job(name, **changes):
            path = self.clips(name, model={"channels": 1}, **changes)
            content = json.loads(path.read_text())
            content["data"] = data
            path.write_text(json.dumps(content))
            return path

        training = {"steps": 40, "validation_every": 5}
        run("train", job("files", training=training))
        held_out = [row["validation_loss"] for row in self.metrics("files")
                    if "validation_loss" in row]
        self.assertLess(held_out[-1], held_out[0])
        run("train", job("files-2", training=training, parallel={"sequence": 2}), "--until-step", 10,
            ranks=2)
        self.assert_same_losses("files", "files-2", steps=10)

    def test_what_cannot_be_trained_is_refused_with_the_reason(self):
        write_npy(self.root / "still.npy", [1, 1, 4, 4], [0.0] * 16)
        write_npy(self.root / "clip.npy", [4, 1, 4, 4], [0.0] * 64)
        files = lambda name, **more: {"data": {"clips": [str(self.root / name)], **more}}
        for words, changes, ranks in (
                (("model.channels is 3", "1 channels"), files("clip.npy", validation_clips=0), 0),
                (("No such file",), files("none.npy"), 0),
                (("no next frame",),
                 {**files("still.npy", validation_clips=0), "model": {"channels": 1}}, 0),
                (("validation_clips is 3", "1 in all"),
                 {**files("clip.npy"), "model": {"channels": 1}}, 0),
                (("model.num_classes is 2", "3 classes"), {"model": {"num_classes": 2}}, 0),
                (("patch_size is 9",), {"model": {"patch_size": 9}}, 0),
                (("parallel.sequence 2", "3 rank(s)"), {"parallel": {"sequence": 2}}, 3),
                (("1 micro-batch(es)", "raise parallel.sequence"),
                 {"training": {"clips_per_micro_batch": 6}, "parallel": {"sequence": 1}}, 2),
                (("sequence_mode", "dynamic"), {"parallel": {"sequence_mode": "dsp"}}, 0),
                (("sequence_placement", "auto"),
                 {"parallel": {"sequence_mode": "ring", "sequence_placement": "frames"}}, 0),
                (("\"galore\"", "legal: 0"),
                 {"optimizer": {"name": "galore", "galore": {"rank": 8}}}, 2)):
            with self.subTest(words=words):
                changes = dict(changes)
                path = self.clips("refused", **changes)
                if "sprites" not in str(changes.get("data", "sprites")):
                    content = json.loads(path.read_text())
                    content["data"].pop("sprites")
                    content["training"].pop("validation_every")
                    path.write_text(json.dumps(content))
                refused = run("train", path, ranks=ranks, expect=2).stderr
                for word in words:
                    self.assertIn(word, refused)

    def test_every_optimizer_trains_clips(self):
        for optimizer in ({"moments": "bf16"}, {"name": "adamw_8bit"},
                          {"name": "galore", "galore": {"rank": 8, "interval": 4}},
                          {"name": "blockllm", "blockllm": {"active": 0.3, "interval": 5}},
                          {"name": "mezo", "learning_rate": 1e-4},
                          {"name": "lozo", "learning_rate": 1e-4}):
            name = "optimizer-" + optimizer.get("name", "rounded")
            job = self.clips(name, optimizer={"learning_rate": 3e-3, **optimizer})
            run("train", job, "--until-step", 5)
            run("train", job)
            losses = self.losses(name)
            self.assertEqual(len(losses), 10)
            if optimizer.get("name") not in ("mezo", "lozo"):  # 10 slopes show little
                self.assertLess(losses[10], losses[1])

    def test_commands_for_texts_say_that_they_are(self):
        job = self.clips("other")
        run("train", job)
        run("train", job)  # nothing to do
        checkpoint = self.root / "other"
        for arguments in (("verify", job),
                          ("evaluate", checkpoint, self.tokens),
                          ("export", checkpoint, "-o", self.root / "exported"),
                          ("plan", job, "--max-sequence")):
            with self.subTest(arguments[0]):
                self.assertIn("texts", run(*arguments, expect=2).stderr)
        found = json.loads(run("inspect", checkpoint / STEP, "--json").stdout)
        self.assertEqual(found["model"]["model_type"], "spatial_temporal")
        self.assertEqual(found["model"]["config"]["patch_size"], 2)
        self.assertIn("data.sprites", run("schema", "--clips", "--markdown").stdout)
        self.assertIn("clips_per_step", run("train", "--help").stdout)

    def test_clips_are_gone_on_with(self):
        run("train", self.clips("goes-on"))
        model, picture, numbers = (self.root / name for name in ("goes-on", "on.gif", "on.npy"))
        sprites = ("--start", "sprites", "--shape", "6x6x10", "--samples", 3, "--given-frames", 2)
        said = run("generate", model, *sprites, "-o", picture).stdout
        self.assertIn("3 clips gone on with for 4 frames; PSNR", said)
        self.assertEqual(picture.read_bytes()[:6], b"GIF89a")
        run("generate", model, *sprites, "-o", numbers)
        clips = numbers.read_bytes()
        self.assertIn(b"'shape': (3, 6, 3, 6, 10,)", clips)
        self.assertEqual(len(clips), 128 + 4 * 3 * 6 * 3 * 6 * 10)
        # From the file the same again, if it says the same of the first frames.
        again = self.root / "again.npy"
        run("generate", model, "--start", numbers, "--samples", 3, "--given-frames", 2, "-o", again)
        self.assertEqual(again.read_bytes(), clips)
        for words, arguments in (
                (("there already",), (*sprites, "-o", picture)),
                (("FILE.gif", "FILE.npy"), (*sprites, "-o", self.root / "on.mp4")),
                (("needs --output",), sprites),
                (("--start",), ("-o", self.root / "new.gif")),
                (("--class", "go on"), (*sprites, "--class", 1, "-o", self.root / "new.gif")),
                (("16x32x32",), ("--start", "sprites", "--shape", "6x6", "-o", self.root / "new.gif")),
                (("multiples of 2",), ("--start", "sprites", "--shape", "6x5x6", "-o",
                                       self.root / "new.gif")),
                (("--given-frames is 6", "6"), ("--start", numbers, "--given-frames", 6, "-o",
                                                self.root / "new.gif")),
                (("model of clips",), (*sprites, "--temperature", 0.5, "-o", self.root / "new.gif")),
                (("model of clips",), ("--prompt", "a"))):
            with self.subTest(words=words):
                refused = run("generate", model, *arguments, expect=2).stderr
                for word in words:
                    self.assertIn(word, refused)
        self.assertIn("one process", run("generate", model, *sprites, "-o", self.root / "new.gif",
                                         ranks=2, expect=2).stderr)

    def test_clips_are_made_of_noise(self):
        run("train", self.clips("makes", model={"num_classes": 3},
                                training={"objective": "rectified_flow", "precision": "bf16"}))
        made = lambda name, *more: run("generate", self.root / "makes", "--shape", "4x6x8",
                                       "--samples", 4, "--sampling-steps", 3, *more, "-o",
                                       self.root / f"made-{name}.npy")
        made("one")
        made("same")
        made("other", "--seed", 2)
        made("class", "--class", 0)
        one, same, other, of_class = ((self.root / f"made-{name}.npy").read_bytes()
                                      for name in ("one", "same", "other", "class"))
        self.assertEqual(one, same)
        self.assertNotEqual(one, other)
        clip = 4 * 4 * 3 * 6 * 8  # bytes; the first is of class 0 in both
        self.assertEqual(one[:128 + clip], of_class[:128 + clip])
        self.assertNotEqual(one[128 + clip:], of_class[128 + clip:])
        for words, arguments in ((("--class is 3", "0 to 2"), ("--shape", "4x6x8", "--class", 3)),
                                 (("--shape",), ()),
                                 (("--start",), ("--shape", "4x6x8", "--start", "sprites"))):
            with self.subTest(words=words):
                refused = run("generate", self.root / "makes", *arguments, "-o",
                              self.root / "new.gif", expect=2).stderr
                for word in words:
                    self.assertIn(word, refused)

    def test_a_run_takes_what_its_plan_says(self):
        plans = []
        few_frames = {"data": {"sprites": {"clips": 40, "shapes": ["2x6x10"]}},
                      "training": {"clips_per_micro_batch": 1}, "model": {"num_classes": 3}}
        for number, (ranks, changes) in enumerate((
                (1, {}), (1, {"memory": {"activation_checkpointing": "block"}}),
                (2, {"parallel": {"sequence": 2}}),
                (3, {"parallel": {"data": 3, "zero_stage": 3}, "training": {"precision": "bf16"}}),
                (4, {"parallel": {"sequence": 2, "zero_stage": 2}}),
                (2, {"parallel": {"sequence": 2, "sequence_mode": "ring"}}),
                (3, {"parallel": {"sequence": 3, "sequence_placement": "frames"}, **few_frames}),
                (3, {"parallel": {"sequence": 3, "zero_stage": 3}, **few_frames,
                     "memory": {"activation_checkpointing": "block"}}),
                (2, {"training": {"objective": "rectified_flow"}, "model": {"num_classes": 3},
                     "optimizer": {"name": "adamw_8bit"}}))):
            name = f"planned-{number}"
            training = {"steps": 3, "validation_every": 0, **changes.get("training", {})}
            data = changes.get("data", {"sprites": {"clips": 40, "shapes": ["5x6x10"]}})
            job = self.clips(name, **{**changes, "run": {"threads": 1}, "training": training,
                                      "data": data})
            with self.subTest(name):
                plan = json.loads(run("plan", job, "--world-size", ranks, "--json").stdout)
                run("train", job, ranks=ranks)
                self.assert_planned(name, plan, steps=3)
                plans.append(plan)
        self.assertLess(plans[1]["peak_bytes"]["saved"], plans[0]["peak_bytes"]["saved"])
        self.assertGreater(plans[1]["flops"]["recomputed"], 0)
        self.assertEqual(plans[0]["flops"]["recomputed"], 0)
        dynamic = lambda ranks, placement: {"data": 1, "sequence": ranks, "sequence_mode": "dynamic",
                                            "sequence_placement": placement}
        self.assertEqual(plans[2]["layout"], dynamic(2, "alternating"))
        self.assertEqual(plans[6]["layout"], dynamic(3, "frames"))
        self.assertEqual(plans[7]["layout"], dynamic(3, "places"))  # of 2 frames, as nobody said

    def test_no_mixture_of_extents_takes_more_than_the_plan_says(self):
        job = self.clips("mixed", parallel={"sequence": 3}, run={"threads": 1},
                         data={"sprites": {"clips": 40, "shapes": ["6x6x8", "2x6x10"]}},
                         memory={"activation_checkpointing": "block"})
        plan = json.loads(run("plan", job, "--world-size", 3, "--json").stdout)
        layout = plan["layout"]
        self.assertEqual(layout["placements_by_extents"], {"alternating": 1, "places": 1})
        shown = run("plan", job, "--world-size", 3).stdout
        self.assertIn("alternating for 1 and places for 1 extents of clips", shown)
        self.assertIn("share clips (dynamic, alternating for 1", run("train", job, ranks=3).stdout)
        for row in self.metrics("mixed"):
            if "peak_bytes" in row:
                self.assertLessEqual(row["peak_bytes"]["total"], plan["peak_bytes"]["total"])

    def test_a_job_that_does_not_fit_says_what_would(self):
        job = self.clips("large", memory={"limit": "1MiB"})
        refused = run("train", job, expect=3).stderr
        for word in ("memory.limit", "IT DOES NOT FIT", "activation_checkpointing"):
            self.assertIn(word, refused)
        dry = run("train", self.clips("dry"), "--dry-run").stdout
        self.assertIn("dry run", dry)
        self.assertIn("It fits", dry)
        told = run("plan", job, "--world-size", 8, "--device", "h200").stdout
        self.assertIn("8 x ", told)


if __name__ == "__main__":
    unittest.main()
