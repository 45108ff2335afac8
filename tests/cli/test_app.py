"""The program: help, version, output paths, exit codes, what it imports."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

import stn3d
from stn3d.cli import main
from tests.cli.cases import (
    QUICK,
    Files,
    printed,
)


def test_installed_program_prints_its_version() -> None:
    program = Path(sys.executable).with_name("stn3d")
    if not program.exists():
        pytest.skip(f"the package is not installed: there is no {program}")
    done = subprocess.run([program, "--version"], capture_output=True, encoding="utf8", check=True)
    assert done.stdout.strip() == f"stn3d {stn3d.__version__}"
    assert done.stderr == ""


@pytest.mark.parametrize(
    "command", ["register", "series", "apply", "points", "evaluate", "landmarks", "demo", "train"]
)
def test_each_command_explains_itself(command: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert main([command, "--help"]) == 0
    text = "\n".join(printed(capfd)[0])
    assert f"stn3d {command}" in text
    assert command == "train" or re.search(r"--out +-o\b", text)
    assert main([command, "-h"]) == 0
    assert "\n".join(printed(capfd)[0]) == text
    assert main([]) == 0
    assert command in "\n".join(printed(capfd)[0])


def test_the_first_line_comes_before_torch(tmp_path: Path) -> None:
    program = (
        "import sys\n"
        "class Watch:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'torch': print('torch', file=sys.stderr)\n"
        "sys.meta_path.insert(0, Watch())\n"
        "from stn3d.cli import main\n"
        "main(['register', 'a/fixed.nii.gz', 'b/moving.nii.gz', '--out', 'out'])"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, encoding="utf-8", cwd=tmp_path
    )
    lines = ran.stderr.splitlines()
    assert lines[:2] == [
        f"stn3d {stn3d.__version__}: registering moving.nii.gz to fixed.nii.gz",
        "torch",
    ]


def test_quiet_prints_the_status_alone(
    both_files: dict[int, Files], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    command = ["register", *both_files[2].pair, "--out", str(tmp_path / "out"), *QUICK]
    assert main([*command, "--quiet"]) == 0
    out, err = capfd.readouterr()
    assert err == ""
    assert len(out.splitlines()) == 1
    assert out.startswith("quality: ")


def test_verbose_prints_settings_and_versions(
    both_files: dict[int, Files], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    command = ["register", *both_files[2].pair, "--out", str(tmp_path / "out"), *QUICK]
    assert main([*command, "-v"]) == 0
    out, err = printed(capfd)
    for begin in ("settings: kind ", "settings, linear stages: ", "times, s: read ", "versions: "):
        assert sum(line.startswith(begin) for line in out) == 1, begin
    assert any(line.startswith("initial transform") for line in map(str.strip, out))
    assert err[0].startswith("reading the images, ")
    assert any(re.fullmatch(r"rigid, level 1 of 1, .* iterations, [\d.]+ s", line) for line in err)


def test_interrupt_leaves_nothing(both_files: dict[int, Files], tmp_path: Path) -> None:
    config = tmp_path / "long.yaml"
    config.write_text("deformable:\n  factors: [2]\n  iterations: [100000]\n  tolerance: 0\n")
    out = tmp_path / "a" / "out"
    command = "import sys; from stn3d.cli import main; sys.exit(main())"
    options = ["--out", str(out), "--config", str(config), "--threads", "1"]
    with subprocess.Popen(
        [sys.executable, "-c", command, "register", *both_files[2].pair, *options],
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        encoding="utf8",
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.default_int_handler),
    ) as process:
        assert process.stderr is not None
        assert process.stderr.readline().startswith("stn3d ")
        first = process.stderr.readline()  # a level has ended, the deformable one has no end
        assert first.startswith("rigid, ")
        assert out.is_dir()
        os.kill(process.pid, signal.SIGINT)
        rest = process.stderr.read()
        assert process.wait(timeout=60) == 130
    assert rest.splitlines()[-1] == "stn3d: interrupted."
    assert "Traceback" not in rest
    assert list(tmp_path.iterdir()) == [config]


def test_a_fault_of_ours_is_not_hidden(
    both_files: dict[int, Files], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("a fault")

    monkeypatch.setattr("stn3d.io.read_specs", broken)
    like = ["--like", both_files[2].fixed, "--out", str(tmp_path / "out.nii.gz")]
    with pytest.raises(RuntimeError, match="a fault"):
        main(["apply", "any.h5", both_files[2].moving, *like])


@pytest.mark.parametrize("kind", ["rigid", "deformable"])
def test_nothing_slow_is_imported(kind: str, files: Files, tmp_path: Path) -> None:
    """Each of these takes 0.3 to 1.2 seconds, and torch imports them on some paths only."""
    words = ["register", *files.pair, "--out", str(tmp_path / "out"), "--kind", kind, *QUICK]
    slow = ["sympy", "torch._dynamo", "monai", "scipy.optimize", "matplotlib", "pandas"]
    program = (
        "import sys; from stn3d.cli import main\n"
        f"code = main({words!r})\n"
        f"print(code, [name for name in {slow!r} if name in sys.modules])"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, encoding="utf-8")
    assert ran.stdout.splitlines()[-1] == "0 []", ran.stderr


OUTPUTS = {
    "register good.nii.gz other.nii.gz": ("missing option '--out'", "register --help"),
    "register good.nii.gz other.nii.gz --out points.csv": (
        "cannot make the folder points.csv: File exists",
        "give another --out",
    ),
    "register good.nii.gz other.nii.gz --out points.csv/out": (
        "cannot make the folder points.csv/out: Not a directory",
        "give another --out",
    ),
    "apply affine3.h5 good.nii.gz --like good.nii.gz --out NEW/moved.jpg": (
        "moved.jpg",
        "use one of the extensions .nii, .nii.gz",
    ),
    "apply affine3.h5 good.nii.gz --like good.nii.gz --out NEW/gone/moved.nii": (
        "there is no folder",
        "create it first",
    ),
    "apply affine3.h5 good.nii.gz --like good.nii.gz --out points.csv/moved.nii": (
        "there is no folder points.csv",
        "create it first",
    ),
    "apply affine3.h5 good.nii.gz --like good.nii.gz": ("missing option '--out'", "apply --help"),
    "points affine3.h5 points.csv --out NEW/gone/out.csv": ("there is no folder", "create it"),
    "points affine3.h5 points.csv --out folder": (
        "folder: it is a folder",
        "give the path of a file",
    ),
    "evaluate --fixed good.nii.gz --moving other.nii.gz --out points.csv/a.json": (
        "cannot write points.csv/a.json",
        "create it first",
    ),
    "demo --out points.csv/out": ("cannot make the folder points.csv/out", "give another --out"),
    "regster good.nii.gz other.nii.gz --out NEW/out": ("no such command 'regster'", "register"),
}


@pytest.mark.parametrize("command", OUTPUTS)
def test_outputs(refused: Callable[[str], str], command: str) -> None:
    sentence = refused(command)
    for words in OUTPUTS[command]:
        assert words in sentence


@pytest.mark.parametrize(
    ("words", "completed"),
    [
        ("stn3d conv", {"convert"}),
        ("stn3d register --metr", {"--metric"}),
        ("stn3d register a.nii b.nii --metric n", {"ncc", "nmi"}),
        ("stn3d apply t.h5 a.nii --interpolation l", {"linear", "label"}),
    ],
)
def test_shells_complete_commands_options_and_values(words: str, completed: set[str]) -> None:
    state = {"_STN3D_COMPLETE": "complete_bash", "COMP_WORDS": words}
    state["COMP_CWORD"] = str(len(words.split()) - 1)
    program = "from stn3d.cli import main; main([])"
    ran = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        encoding="utf-8",
        env={**os.environ, **state},
    )
    assert set(ran.stdout.split()) == completed, ran.stderr
