"""Promotion: what forecasts a symbol has proven skill, or says of itself that it has not."""

import html
import json
import re
from datetime import datetime
from pathlib import Path

from backsight_features.errors import BadInput
from backsight_features.workspace import Workspace

from backsight_model import bundle, shadows
from backsight_model.bundle import Bundle, Override

BEGIN, END = "<!-- promotion -->", "<!-- /promotion -->"
"""Between these a page says why a model without skill is used."""


def promote(workspace: Workspace, folder: Path, *, reason: str | None, now: datetime) -> tuple[Bundle, Path | None]:
    """Make a bundle the one that forecasts its symbols; return it, and its report where an override was noted there.

    Parameters
    ----------
    workspace : Workspace
        Holds bundles and reports.
    folder : Path
        The bundle.
    reason : str, optional
        Why to use it although it has no proven skill: written into bundle and report, and repeated by forecasts.
    now : datetime

    Raises
    ------
    BadInput
        As `bundle.promote` says, or where the reason is blank.
    """
    override = None
    if reason is not None:
        on_one_line = " ".join(reason.split())
        if not on_one_line:
            raise BadInput("the reason of an override is blank; say why a model without proven skill is to be used")
        override = Override(reason=on_one_line, at=now.isoformat(timespec="seconds"))
    promoted = bundle.promote(workspace.models, folder, override=override)
    in_shadow = shadows.named(workspace.models)
    shadows.end(workspace.models, [one for one in promoted.symbols if in_shadow.get(one) == promoted.name])
    report = workspace.reports / promoted.name
    if promoted.override is None or not (report / "report.json").exists():
        return promoted, None
    note(report, promoted.override)
    return promoted, report / "report.html"


def note(report: Path, override: Override) -> None:
    """Say in a report that was written, page and JSON, that its model is used without skill, and why."""
    as_json, as_html = report / "report.json", report / "report.html"
    document = json.loads(as_json.read_text(encoding="utf-8"))
    document["override"] = {"reason": override.reason, "at": override.at}
    as_json.write_text(json.dumps(document, indent=1, allow_nan=False), encoding="utf-8")
    said = f"In use without proven skill since {override.at}: {override.reason}"
    block = f'{BEGIN}<div class="flags"><p><strong>{html.escape(said)}</strong></p></div>{END}'
    page = as_html.read_text(encoding="utf-8")
    as_html.write_text(re.sub(f"{BEGIN}.*?{END}", lambda _: block, page, flags=re.DOTALL), encoding="utf-8")
