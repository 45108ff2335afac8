"""Registrations of a build in several processes, and damaged files of an interrupted one."""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

from stn3d.template.registrations import Job, Registrations, is_finished, run_job
from stn3d.template.settings import TemplateSettings
from tests.helpers.template_cases import make_group


def test_two_processes_give_the_same_bytes_and_damage_is_found(tmp_path: Path) -> None:
    paths = [one.path for one in make_group(tmp_path, 3)]
    settings = TemplateSettings(jobs=2, threads=2)
    options = settings.registration("fast", "affine")

    def jobs(folder: Path) -> list[Job]:
        return [
            Job(
                p.name[:6], folder, folder / f"{p.name}.json", (paths[0], p), options, ("a", p.name)
            )
            for p in paths[1:]
        ]

    job = jobs(tmp_path / "one")[0]
    for name in ("compiles", "one"):  # what compiles kernels may differ in the last digits
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as alone:
            alone.submit(run_job, jobs(tmp_path / name)[0], 1).result()
    seen: list[tuple[int, int, str]] = []
    runs = Registrations(settings, 2, lambda *now: seen.append(now))
    with runs.opened():
        found = runs.run(jobs(tmp_path / "two"), "test")
    assert seen[-1] == (2, 2, "test: shape2")
    assert [one.name for one in found] == ["shape1", "shape2"]
    assert (tmp_path / "one" / "shape1.h5").read_bytes() == found[0].path.read_bytes()
    assert is_finished(job)
    (tmp_path / "one" / "shape1.h5").write_bytes(b"cut off")
    assert not is_finished(job)
    job.record.write_text("{", encoding="utf8")
    assert not is_finished(job)
