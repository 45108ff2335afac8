"""HTML from templates: everything escaped, scripts allowed by their hash alone."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from markupsafe import Markup

from stn3d.report.case import ReportCase
from stn3d.report.colours import SEQUENTIAL
from stn3d.report.page.pictures import planes_content
from stn3d.report.page.texts import texts_content
from stn3d.report.views import View
from stn3d.report.volumes import GREYS, CoarseTransform, viewer_volumes

NIIVUE_VERSION = "0.69.0"
_ASSETS = Path(__file__).parent / "assets"
_COLOUR_STEP = 51  # between the colours of a ramp that the interactive view interpolates


def page_html(case: ReportCase, views: Sequence[View]) -> str:
    """The page of a registration.

    Args:
        case: the registration.
        views: its planes.

    Returns:
        A whole HTML document.
    """
    planes = planes_content(case, views)
    coarse = CoarseTransform(case.transform, case.affine.matrix, case.fixed.grid)
    data: dict[str, Any] = {
        "planes": planes.pop("data"),
        "transform": coarse.as_dict() if case.is_deformable else coarse.matrix_only(),
        "decimals": case.decimals,
    }
    viewer = None
    if case.fixed.grid.ndim == 3 and len(views) == 3:
        viewer = viewer_volumes(case, views[0].scales)
        data["viewer"] = {"spacing_mm": viewer["spacing_mm"]}
        if "expected" in viewer:
            colours = {"step": _COLOUR_STEP, "colours": SEQUENTIAL[::_COLOUR_STEP].tolist()}
            data["viewer"]["expected"] = {"unit_mm": viewer["expected_mm"] / GREYS} | colours
            viewer["bar"] = next(one for one in planes["maps"] if one["name"] == "error")
        error_mm = coarse.error_mm() if case.is_deformable else None
        viewer |= {"text": _about(viewer, case, coarse, error_mm), "version": NIIVUE_VERSION}
        viewer |= {"code": Markup(_niivue()), "script": _script("viewer.js")}
    content = {**planes, **texts_content(case), "viewer": viewer, "data": json_data(data)}
    return rendered("report.html.j2", content, ["report.js", "viewer.js"])


def rendered(template: str, content: dict[str, Any], scripts: list[str], style: str = "") -> str:
    """A page from a template, its style and its scripts.

    Args:
        template: name of the template.
        content: what it shows; text is escaped.
        scripts: the scripts that may run; the first is ``script`` in the template.
        style: name of a style beside the common one.
    """
    allowed = [_hash(_script(name)) for name in scripts]
    source = " ".join([*allowed, "blob:"]) if allowed else "'none'"
    policy = (
        f"default-src 'none'; img-src data: blob:; style-src 'unsafe-inline'; script-src {source}; "
        "connect-src data: blob:; font-src data:; base-uri 'none'; form-action 'none'"
    )
    styles = Markup("").join(_script(name) for name in ("style.css", style) if name)
    common = {"policy": policy, "style": styles, "script": _script(scripts[0]) if scripts else ""}
    return _template(template).render({**common, **content})


@cache
def _template(name: str) -> Template:
    loader = FileSystemLoader(_ASSETS)
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    return environment.get_template(name)


@cache
def _script(name: str) -> Markup:
    return Markup((_ASSETS / name).read_text(encoding="utf8"))


@cache
def _niivue() -> str:
    content = (_ASSETS / f"niivue-{NIIVUE_VERSION}.min.js.gz").read_bytes()
    return base64.b64encode(content).decode("ascii")


def _hash(script: str) -> str:
    digest = hashlib.sha256(script.encode("utf8")).digest()
    return f"'sha256-{base64.b64encode(digest).decode('ascii')}'"


def json_data(data: Any) -> Markup:
    """JSON that cannot end the element around it."""
    return Markup(json.dumps(data).replace("<", "\\u003c"))


def _about(
    viewer: dict[str, Any],
    case: ReportCase,
    coarse: CoarseTransform,
    error_mm: tuple[float, float] | None,
) -> str:
    """What the interactive view shows, and how exactly."""
    spacing = " x ".join(f"{s:.3g}" for s in viewer["spacing_mm"])
    copy = f"coarser copies of the images, {spacing} mm" if viewer["coarser"] else "the images"
    text = f"The view shows {copy}, in 128 grey levels within the window of the intensities. "
    if error_mm is not None:
        step = max(coarse.nodes.spacing_mm)
        text += (
            f"The position in the moving image is interpolated from displacements every "
            f"{step:.2g} mm: within {error_mm[0]:.2g} mm of the transform for 95 % of the image, "
            f"within {error_mm[1]:.2g} mm everywhere. "
        )
    return text + (
        "Click or use the arrow keys and Page Up and Page Down to move the crosshair; the mouse "
        "wheel changes slices. Left is left."
    )
