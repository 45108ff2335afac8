"""Text uses the field's terms: none of the words below, with the exceptions named beside them.

Checked are README, CHANGELOG, docs, configs, and the comments, docstrings, messages and help texts
of stn3d and scripts; and the identifiers of stn3d and scripts against a list of old names.
"""

from __future__ import annotations

import io
import re
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.helpers.paths import ROOT


class Rule(NamedTuple):
    """A word that text does not use.

    Args:
        pattern: regular expression of the word, matched without case.
        instead: the field's term.
        allowed: regular expression of contexts in which the word is standard English.
    """

    pattern: str
    instead: str
    allowed: str = ""


RULES = (
    Rule(r"\bfigures\b", "metrics, measures", r"matplotlib|figures of the (paper|demo|report)"),
    Rule(r"\bmend(s|ed|ing)?\b", "fix, correct, refine"),
    Rule(r"\bsteer(s|ed|ing)?\b", "guide, add to the objective"),
    Rule(r"\bjudg(e|es|ed|ing)\b", "evaluate"),
    Rule(r"\b(told|tells?|telling)\b", "report, print, show"),
    Rule(r"\bgo(es)? by\b", "uses"),
    Rule(r"\blooks\b", "restarts, inspects", r"looks (like|up|at the)"),
    Rule(r"\baside\b", "perturbed; elsewhere"),
    Rule(r"\b(one|two|unlike) contrasts?\b", "same or different contrast or modality"),
    Rule(r"(?<!contrast )\bagents?\b", "contrast agent (post-contrast)"),
    Rule(r"\bat birth\b|\bborn\b", "at initialisation"),
    Rule(r"\blocalisers?\b", "estimator"),
    Rule(r"\bstands\b", "is stored in, is documented in", r"stands for"),
    Rule(r"\bdense stages?\b", "deformable stage"),
    Rule(r"\b(brings?|brought)\b", "aligns, warps, registers"),
    Rule(r"\banew\b", "again"),
    Rule(r"\bsuspects?\b", "outlier"),
    Rule(r"\bleft out\b", "leave-one-out; omitted"),
    Rule(r"\bmoving side\b", "moving space"),
    Rule(r"\b(what|that|which) counts?\b|\b(do|does|did) not count\b", "contributes to the metric"),
    Rule(r"\bloops\b", "numba kernels", r"for[- ]loops|training loops|control loops"),
    Rule(r"\bthere and back\b|\bway (there|back)\b", "forward, inverse"),
    Rule(r"\bturn(s|ed)\b", "rotates, rotation", r"turn(s|ed) (out|on|off|into)"),
    Rule(r"\bpeers?\b", "other tools, baselines", r"peer[- ]review"),
    Rule(r"\bverdicts?\b", "quality check, status"),
    Rule(r"\bunlikeness\b|\blikeness\b", "image loss, similarity"),
    Rule(r"\bhollows?\b", "local minimum"),
    Rule(r"\bkick(s|ed)?\b", "perturbation"),
    Rule(r"\bstoreys?\b|\brooms?\b", "layers, modules"),
    Rule(r"\bspread (\(sd\) )?of log\b", "SD of log-Jacobian"),
    Rule(r"\breckon(s|ed)?\b", "compute"),
    Rule(r"\bcharts?\b", "coordinate map", r"pie chart|bar chart"),
    Rule(r"\bmarks of\b|\bits marks\b", "its scores"),
    Rule(r"\bchanges? hands\b|\blast word\b|\bin sight\b|\bout of sight\b", "plain words"),
)

_OLD_NAMES = """
so_far unlikeness Dissimilarity Scan Layer DenseStage Pull Candidate Starts Signs Verdict judge
kick kicks ChartNetwork silent_convolution magnified averaged Returning EachStep Family
FollowAverage Seeds take_picture Stripping Carried longest_vox step_quantile reach_mm looks
localiser dense_metric steered steering inverse_mm sd_log_jac min_jac max_jac remedy Localiser
"""
OLD_NAMES = frozenset(_OLD_NAMES.split())

EXCEPTIONS: dict[str, tuple[str, ...]] = {
    # the old names are listed there, beside the new ones
    "CHANGELOG.md": ("*",),
    "docs/metrics-json.md": ("verdict",),
}


class Hit(NamedTuple):
    """A word that a rule forbids, and where it is."""

    file: str
    line: int
    word: str
    instead: str
    context: str


def texts_of(path: Path) -> Iterator[tuple[int, str]]:
    """Lines of text with their numbers: of Python files the comments and strings alone."""
    content = path.read_text(encoding="utf-8")
    if path.suffix != ".py":
        yield from enumerate(content.splitlines(), start=1)
        return
    for token in tokenize.generate_tokens(io.StringIO(content).readline):
        kinds = {tokenize.COMMENT, tokenize.STRING, getattr(tokenize, "FSTRING_MIDDLE", -1)}
        if token.type in kinds:
            yield from enumerate(token.string.splitlines(), start=token.start[0])


def hits_in(path: Path, root: Path = ROOT) -> Iterator[Hit]:
    """Words of a file that a rule forbids."""
    name = path.relative_to(root).as_posix()
    excepted = EXCEPTIONS.get(name, ())
    if "*" in excepted:
        return
    for number, line in texts_of(path):
        for rule in RULES:
            for found in re.finditer(rule.pattern, line, re.IGNORECASE):
                around = line[max(0, found.start() - 25) : found.end() + 25]
                fine = rule.allowed and re.search(rule.allowed, around, re.IGNORECASE)
                if not fine and found.group().lower() not in excepted:
                    yield Hit(name, number, found.group(), rule.instead, line.strip())


def old_names_in(path: Path) -> Iterator[tuple[int, str]]:
    """Identifiers of a Python file that were renamed."""
    content = path.read_text(encoding="utf-8")
    for token in tokenize.generate_tokens(io.StringIO(content).readline):
        if token.type == tokenize.NAME and token.string in OLD_NAMES:
            yield token.start[0], token.string


def files_of(*patterns: str) -> list[Path]:
    """Files of the project that match, sorted."""
    return sorted(path for pattern in patterns for path in ROOT.glob(pattern))


GROUPS = {
    "front page": files_of("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md"),
    "docs": files_of("docs/**/*.md"),
    "configs": files_of("configs/*.yaml", "configs/*.json"),
    "package": files_of("stn3d/**/*.py"),
    "scripts": files_of("scripts/**/*.py"),
}


@pytest.mark.parametrize("group", GROUPS)
def test_text_uses_the_terms_of_the_field(group: str) -> None:
    assert GROUPS[group]
    hits = [hit for path in GROUPS[group] for hit in hits_in(path)]
    assert not hits, "\n".join(f"{h.file}:{h.line}: {h.word!r}; say {h.instead}" for h in hits)


@pytest.mark.parametrize("group", ["package", "scripts"])
def test_old_names_are_gone(group: str) -> None:
    found = [
        f"{path.relative_to(ROOT)}:{line}: {name}"
        for path in GROUPS[group]
        for line, name in old_names_in(path)
    ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("The verdict is told in metrics.json.", {"verdict", "told"}),
        ("What counts is where the image looks bright.", {"What counts", "looks"}),
        ("It looks like a CT of the contrast agent.", set()),
        ("T1 with agent", {"agent"}),
        ("Returns the rotated image.", set()),
    ],
)
def test_the_rules_find_what_they_should(text: str, words: set[str], tmp_path: Path) -> None:
    page, module = tmp_path / "page.md", tmp_path / "module.py"
    page.write_text(text, encoding="utf-8")
    module.write_text(f'"""{text}"""\nverdict = 1\n', encoding="utf-8")
    for path in (page, module):
        assert {hit.word for hit in hits_in(path, tmp_path)} == words


if __name__ == "__main__":  # python -m tests.test_language [FILES]: list the words with contexts
    for argument in sys.argv[1:] or [str(p) for paths in GROUPS.values() for p in paths]:
        for hit in hits_in(Path(argument).resolve()):
            print(f"{hit.file}:{hit.line}: {hit.word!r} ({hit.instead}): {hit.context}")
