"""Nothing that is read is executed: no call in the sources, and no event while files are read."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.paths import ROOT

# calls that execute or unpickle what they are given
FORBIDDEN = {
    "eval", "exec", "compile", "__import__", "os.system", "os.popen", "pickle.load", "pickle.loads",
    "pickle.Unpickler", "marshal.load", "marshal.loads", "shelve.open", "dill.load", "dill.loads",
    "joblib.load", "torch.load", "torch.jit.load", "yaml.load", "yaml.load_all", "yaml.unsafe_load",
    "yaml.full_load", "runpy.run_path", "importlib.import_module", "pd.read_pickle", "np.load",
    "numpy.load", "subprocess.getoutput", "cloudpickle.loads",
}  # fmt: skip
ALLOWED = {
    # the package's own modules by the names in a constant table
    ("stn3d/kernels/common/dispatch.py", "importlib.import_module"),
    ("stn3d/__init__.py", "importlib.import_module"),
    ("stn3d/cohort/__init__.py", "importlib.import_module"),
    # optional packages and modules of one platform, by constant names
    ("stn3d/cohort/lock.py", "importlib.import_module"),
    ("stn3d/cohort/pairs.py", "importlib.import_module"),
    ("stn3d/cohort/scheduler.py", "importlib.import_module"),
    ("stn3d/io/points/vtk_child.py", "numpy.load"),  # arrays of the parent, without pickles
}


def name_of(node: ast.expr) -> str:
    """A dotted name; empty for other expressions."""
    if isinstance(node, ast.Attribute):
        return f"{name_of(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def calls(source: str) -> Iterator[tuple[str, ast.Call]]:
    """Calls by dotted name, with the names that imports give them."""
    tree = ast.parse(source)
    names = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            names |= {one.asname or one.name: f"{node.module}.{one.name}" for one in node.names}
        if isinstance(node, ast.Import):
            names |= {one.asname: one.name for one in node.names if one.asname}
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            first, dot, rest = name_of(node.func).partition(".")
            yield names.get(first, first) + dot + rest, node


def is_dangerous(name: str, call: ast.Call) -> bool:
    options = {one.arg: getattr(one.value, "value", ...) for one in call.keywords}
    unpickles = options.get("allow_pickle", False) is not False
    return name in FORBIDDEN or unpickles or options.get("shell", False) is not False


def dangerous_calls(source: str) -> list[str]:
    return [name for name, call in calls(source) if is_dangerous(name, call)]


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("import pickle as p\np.loads(b'')", ["pickle.loads"]),
        ("from torch import load\nload('a')", ["torch.load"]),
        ("import numpy as np\nnp.load('a')", ["numpy.load"]),
        ("import yaml\nyaml.load('a', yaml.Loader)", ["yaml.load"]),
        ("import yaml\nyaml.safe_load('a')", []),
        ("import subprocess\nsubprocess.run('a', shell=True)", ["subprocess.run"]),
        ("read(x, allow_pickle=True)", ["read"]),
        ("read(x, allow_pickle=False)", []),
        ("def f():\n    eval('1')", ["eval"]),
    ],
)
def test_the_search_finds_dangerous_calls(source: str, found: list[str]) -> None:
    assert dangerous_calls(source) == found


def test_no_source_unpickles_or_executes_what_it_reads() -> None:
    found = {
        (path.relative_to(ROOT).as_posix(), name)
        for path in (ROOT / "stn3d").rglob("*.py")
        for name in dangerous_calls(path.read_text(encoding="utf-8"))
    }
    assert found - ALLOWED == set()


SCRIPT = """
import sys
from collections import Counter
from pathlib import Path
from random import Random
from scripts.fuzz.readers import reader
from scripts.fuzz.samples import all_samples

folder, events = Path(sys.argv[1]), []
CHILD = ("-I", "-S", "-c")  # stn3d.io.isolated: a fixed program

def watch(event, arguments):
    if not watching:
        return
    if event in ("pickle.find_class", "os.system", "os.exec", "os.posix_spawn", "marshal.load"):
        events.append((event, str(arguments)[:200]))
    if event == "subprocess.Popen" and tuple(arguments[1][1:4]) != CHILD:
        events.append((event, str(arguments)[:200]))
    if event in ("compile", "exec") and not frames_of_imports():
        events.append((event, str(arguments)[:200]))

def frames_of_imports():
    # imports, dataclasses, named tuples and numba's compiler make code of their own; NumPy parses
    # headers by ast.literal_eval, which executes nothing
    frame, names = sys._getframe(2), []
    while frame is not None:
        names.append(frame.f_code.co_filename)
        frame = frame.f_back
    own = ("dataclasses.py", "collections/__init__.py", "/ast.py")
    return any("importlib" in n or n.endswith(own) or "/numba/" in n or "/torch/" in n
               for n in names)

watching = False
names = Counter()
samples = []
for sample in all_samples():  # two of each format
    names[sample.format] += 1
    if names[sample.format] < 3 and (sample.format == "csv" or sys.argv[2:] != ["bomb"]):
        samples.append(sample)
for n, sample in enumerate(samples):  # imports first
    if n in (0, len(samples) - 1):
        reader(sample.format, Random(0))(sample.write(folder / "first" / str(n)))
sys.addaudithook(watch)
watching = True
done = 0
for n, sample in enumerate(samples):
    if sample.format in ("bundle", "checkpoint"):
        continue
    try:
        reader(sample.format, Random(n))(sample.write(folder / str(n)))
        done += 1
    except ValueError:
        pass
if sys.argv[2:] == ["bomb"]:
    import pickle
    pickle.loads(pickle.dumps(Path))
watching = False
print(done, len(events), *events[:5])
"""


def read_all(folder: Path, *more: str) -> list[str]:
    """The number of files read, and that of suspicious events."""
    ended = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", SCRIPT, str(folder), *more],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    return ended.stdout.split(maxsplit=2)


def test_readers_execute_nothing(tmp_path: Path) -> None:
    done, count, *events = read_all(tmp_path)
    assert int(done) > 20
    assert (count, events) == ("0", [])


def test_the_watch_sees_a_pickle(tmp_path: Path) -> None:
    _, count, *events = read_all(tmp_path, "bomb")
    assert int(count) >= 1
    assert "pickle.find_class" in events[0]
