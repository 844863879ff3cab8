"""A bundle of this build (scripts/bundle) runs from another folder, with nothing in its environment."""

import os
import pathlib
import shutil
import subprocess
import sys
import unittest

import harness

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(harness.LONGSPAN).resolve().parent
SKIPPED = 77


def bundle(*arguments):
    return subprocess.run([sys.executable, "-B", str(ROOT / "scripts/bundle"), *map(str, arguments)], text=True,
                          capture_output=True, check=False)


class Bundle(harness.Workspace):

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.made = bundle("--preset", BUILD.name, "--output", cls.root / "made")
        if cls.made.returncode != 0:
            raise AssertionError(cls.made.stdout + cls.made.stderr)
        cls.bundle = cls.root / "moved to a place" / "with spaces"
        cls.bundle.parent.mkdir()
        (cls.root / "made").rename(cls.bundle)

    def bare(self, *command, expect=0):
        """Runs a command of the bundle in an environment with a PATH alone."""
        environment = {"PATH": "/usr/bin:/bin"}
        if "LD_LIBRARY_PATH" in os.environ:  # where CUDA's libraries may be
            environment["LD_LIBRARY_PATH"] = os.environ["LD_LIBRARY_PATH"]
        result = subprocess.run([str(self.bundle / command[0]), *map(str, command[1:])], env=environment,
                                cwd=self.root, text=True, capture_output=True, check=False)
        self.assertEqual(result.returncode, expect, f"{command}\n{result.stdout}\n{result.stderr}")
        return result.stdout

    def test_the_program_alone_and_under_its_own_mpirun(self):
        self.assertIn("longspan 0.", self.bare("longspan", "--version"))
        short = {"training": {"steps": 3, "validation_every": 0}, "run": {"threads": 1}, "checkpoint": {"every": 0}}
        self.bare("longspan", "train", self.job("alone", **short))
        mpirun = ["run", "mpirun", *harness.MPIRUN[1:], "2"]
        self.bare(*mpirun, "longspan", "train", self.job("two", **short))
        for step, loss in self.losses("alone").items():
            self.assertAlmostEqual(loss, self.losses("two")[step], places=4)

    def test_test_programs_find_their_data(self):
        for program, tests in (("model_tests", "*agree with PyTorch to 1e-5*"), ("train_tests", "the documented*")):
            self.assertIn("All tests passed", self.bare("run", program, tests))

    def test_gpu_check_of_the_bundle(self):
        self.assertIn("verify 1 rank", self.bare("scripts/gpu_check", "--list"))
        self.bare("scripts/gpu_check", "--only", "no such check", expect=77)
        output = self.bare("scripts/gpu_check", "--device", "cpu", "--only", "plan bf16, 2 ranks, zero_stage 1")
        self.assertIn("\n1 passed, 0 failed, 0 skipped\n", output)

    def test_what_is_refused(self):
        self.assertIn("--limit 1", bundle("--preset", BUILD.name, "--output", self.root / "small",
                                          "--limit", 1).stderr)
        self.assertFalse((self.root / "small").exists())
        self.assertIn("is no bundle", bundle("--preset", BUILD.name, "--output", self.root).stderr)
        self.assertIn("cmake --preset none", bundle("--preset", "none", "--output", self.root / "none").stderr)
        about = self.bundle / "about"
        text = about.read_text()
        about.write_text(text + "cuda_libraries='libcublasLt.so.999'\n")
        try:
            self.bare("longspan", "--version", expect=2)
        finally:
            about.write_text(text)


if __name__ == "__main__":
    if BUILD != ROOT / "build" / BUILD.name or not shutil.which("strip"):
        print(f"skipped: {BUILD} is not build/PRESET of {ROOT}, or there is no strip")
        sys.exit(SKIPPED)
    unittest.main()
