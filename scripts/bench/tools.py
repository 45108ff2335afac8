"""The tools that the benchmarks compare, each run as a whole process from files to files.

``stn3d fast``, ``stn3d default`` and ``stn3d accurate`` are the presets of the optimiser;
``stn3d network`` uses the networks only; ``stn3d both`` (or ``both fast``) optimises from their
result; all three need ``--deformable-weights``. ``stn3d nmi`` (or ``nmi fast``) is the optimiser
with mutual information; ``stn3d + labels`` adds the labels to the objective, so its Dice is not an
independent test. A name such as ``stn3d --kind rigid --metric nmi`` passes exactly these options to
``stn3d register``; names in braces, such as ``{fixed_labels}``, are replaced by the pair's files.
``before`` evaluates the identity: the pair as its headers place it. The other tools are in
`scripts.bench.baselines`.
"""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path

from scripts.bench import baselines
from scripts.bench.baselines import OTHER_TOOLS
from scripts.bench.pairs import FILES, POINTS, Pair, parts_of_points
from scripts.bench.process import Cost, failure_reason, run_process
from scripts.bench.store import Row

PEERS_SCRIPT = Path(baselines.__file__)
PRESETS = ("fast", "default", "accurate")  # of the optimiser, fastest first
BEFORE = "before"
LABELS = "stn3d + labels"
_WEIGHTS = ("--deformable-weights", "{deformable_weights}")
STN3D: dict[str, list[str]] = {
    f"stn3d {p}": ["--estimator", "optimiser", "--preset", p] for p in PRESETS
}
STN3D |= {
    "stn3d nmi": ["--estimator", "optimiser", "--metric", "nmi"],
    "stn3d nmi fast": ["--estimator", "optimiser", "--metric", "nmi", "--preset", "fast"],
    "stn3d network": ["--estimator", "network", *_WEIGHTS],
    "stn3d both": ["--estimator", "both", *_WEIGHTS],
    "stn3d both fast": ["--estimator", "both", "--preset", "fast", *_WEIGHTS],
    LABELS: [
        *("--fixed-labels", "{fixed_labels}", "--moving-labels", "{moving_labels}"),
        *("--label-weight", "1"),
    ],
}
METRICS = (
    *("dice", "hd95_mm", "folding_pct", "log_jacobian_sd", "true_error_mm", "tre_mm"),
    *("wall_s", "cpu_s", "peak_gb"),
)
QUALITY_FAILED = 3  # exit code of stn3d where its quality check failed; the files are complete


def is_stn3d(tool: str) -> bool:
    """Whether a tool's name is one of stn3d's."""
    return tool.startswith("stn3d ")


def is_preset(tool: str) -> bool:
    """Whether a tool is the optimiser of stn3d with a preset and nothing else."""
    return is_stn3d(tool) and tool.removeprefix("stn3d ") in PRESETS


def needs_weights(tool: str) -> bool:
    """Whether a tool is stn3d with a deformable network."""
    return _WEIGHTS[1] in STN3D.get(tool, ())


def available(tools: Sequence[str], tools_python: str) -> dict[str, str]:
    """The tools that can run here and their versions; prints a line for each that cannot.

    Args:
        tools: their names.
        tools_python: the Python interpreter that has the other tools.

    Raises:
        SystemExit: a name is unknown, or no tool remains.
    """
    ask = [tools_python, str(PEERS_SCRIPT), "--versions"]
    known: dict[str, str | None] = dict.fromkeys(STN3D, f"stn3d {version('stn3d')}")
    known |= json.loads(subprocess.run(ask, check=True, capture_output=True).stdout)
    known[BEFORE] = BEFORE
    here = {}
    for tool in (name.strip() for name in tools):
        known |= {tool: known["stn3d default"]} if tool.startswith("stn3d --") else {}
        if tool not in known:
            raise SystemExit(f"--tools: there is no tool {tool!r}; choose from {', '.join(known)}.")
        found = known[tool]
        if found:
            here[tool] = found
        else:
            print(
                f"{tool} is omitted: {OTHER_TOOLS[tool].package} is not installed.", file=sys.stderr
            )
    if not here:
        raise SystemExit("No tool remains; see the first lines of scripts/bench/baselines.py.")
    return here


def evaluate_tool(
    tool: str, pair: Pair, threads: int, tools_python: str, config: Path | None = None
) -> Row:
    """Register a pair with a tool and evaluate its transform: metrics and cost, or ``failed``."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out"
        images = (pair["fixed"], pair["moving"])
        further = ["--config", str(config)] if config else []
        try:
            if tool == BEFORE:
                return score(pair, None)
            cost = register_pair(tool, images, out, threads, tools_python, further, pair)
            return score(pair, out / "transform.h5") | cost | quality_status(out)
        except subprocess.CalledProcessError as error:
            return {"failed": failure_reason(error)}
        except KeyError as error:
            return {"failed": f"the pair has no {error.args[0]}"}


def register_pair(
    tool: str,
    images: tuple[str, str],
    out: Path,
    threads: int,
    tools_python: str = sys.executable,
    further: Sequence[str] = (),
    files: Mapping[str, str] | None = None,
) -> Cost:
    """Run a tool on a pair. Its transform is then ``out / "transform.h5"``.

    Args:
        tool: another tool, a name of `STN3D`, or ``stn3d`` and options of ``stn3d register``.
        images: fixed and moving image.
        out: folder of the tool's files.
        threads: CPU threads of the tool.
        tools_python: the Python interpreter that has the other tools.
        further: options of ``stn3d register``.
        files: the pair's files, which replace names in braces.

    Returns:
        The cost of the tool's process; stn3d makes no report, as no other tool does.

    Raises:
        KeyError: the pair has no such file.
        subprocess.CalledProcessError: it failed; ``stderr`` is what it printed.
    """
    if tool in OTHER_TOOLS:
        command = [tools_python, str(PEERS_SCRIPT), tool, *images, str(out)]
        cost = run_process([*command, str(threads)])
        run_process([*command, "--convert"])
        return cost
    command = [sys.executable, "-m", "stn3d", "register", *images, "--out", str(out)]
    asked = STN3D.get(tool) or shlex.split(tool)[1:]
    options = [option.format_map(files or {}) for option in asked]
    command += ["--no-report", "--threads", str(threads), *options, *further]
    return run_process(command, allowed=(0, QUALITY_FAILED))


def score(pair: Pair, transform: Path | None) -> Row:
    """The metrics of a transform, or of the identity, as ``stn3d evaluate`` computes them.

    Raises:
        subprocess.CalledProcessError: it failed; ``stderr`` is what it printed.
    """
    metrics = _evaluated({key: pair[key] for key in FILES if key in pair}, transform)
    for part in parts_of_points(pair):
        images = {key: pair[key] for key in ("fixed", "moving")}
        points = {key: pair[f"{key}_{part}"] for key in POINTS}
        metrics[f"tre_{part}_mm"] = _evaluated(images | points, transform)["tre_mm"]
    return metrics


def _evaluated(files: Mapping[str, str], transform: Path | None) -> Row:
    """The metrics that ``stn3d evaluate`` prints, of errors the means."""
    command = [sys.executable, "-m", "stn3d", "evaluate", "--json"]
    command += ["--transform", str(transform)] if transform else []
    for key, path in files.items():
        command += [f"--{key.replace('_', '-')}", path]
    printed = subprocess.run(command, check=True, capture_output=True, encoding="utf-8")
    metrics = json.loads(printed.stdout)
    for key in ("true_error_mm", "tre_mm"):
        if isinstance(metrics.get(key), dict):
            metrics[key] = metrics[key]["mean"]
    return {key: metrics[key] for key in METRICS if key in metrics}


def quality_status(out: Path) -> Row:
    """The status of stn3d's own quality check; nothing for other tools."""
    path = out / "metrics.json"
    if not path.exists():
        return {}
    return {"quality_status": json.loads(path.read_text(encoding="utf-8"))["quality"]["status"]}
