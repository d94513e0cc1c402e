"""Reports under /v1, and their files under /reports: what only reads."""

from __future__ import annotations

import gzip
from typing import Annotated

from fastapi import APIRouter, HTTPException, Path, Query, Request, Response

from monitor.api.access import READS
from monitor.api.context import Cursor, Limit, Reading, Shown
from monitor.api.examples import example
from monitor.api.problems import RESPONSES, told
from monitor.storage.views import reports as views
from monitor.storage.views.models.base import Page
from monitor.storage.views.reports import FILE_NAME, CadenceName, ReportView

Id = Annotated[int, Path(ge=1, le=2**63 - 1)]
FileName = Annotated[str, Path(max_length=100, pattern=f"^{FILE_NAME.pattern}$")]
router = APIRouter(prefix="/v1", tags=["v1"], responses=RESPONSES, dependencies=READS)
files = APIRouter(prefix="/reports", include_in_schema=False, dependencies=READS)

# A report's pages are whole in themselves: their styles, and Evidently's script, stand in them, and nothing is loaded.
# The script runs in an origin of its own, so that it could read nothing of the status page.
POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data: blob:; font-src data:; base-uri 'none'; "
POLICY += "form-action 'none'; frame-ancestors 'none'"
CONTENT_SECURITY_POLICY = {
    "evidently.html": f"{POLICY}; script-src 'unsafe-inline'; sandbox allow-scripts allow-downloads",
}


@router.get("/reports", responses=example("reports"))
def reports(
    shown: Shown,
    connection: Reading,
    limit: Limit = 50,
    cursor: Cursor = None,
    cadence: Annotated[CadenceName | None, Query()] = None,
) -> Page[ReportView]:
    """Reports about periods, newest first; each file is at `/reports/{report_id}/{name}`."""
    return views.reports_page(connection, shown.model, limit=limit, cursor=cursor, cadence=cadence)


@router.get("/reports/{report_id}", responses={**example("report"), **told(404)})
def report(shown: Shown, connection: Reading, report_id: Id) -> ReportView:
    """One report; 404 where there is none."""
    if (found := views.report(connection, shown.model, report_id)) is None:
        raise HTTPException(404, f"there is no report {report_id}")
    return found


@files.get("/{report_id}/{name}")
def file(request: Request, shown: Shown, connection: Reading, report_id: Id, name: FileName) -> Response:
    """One file of a report, as it is kept where the reader takes gzip."""
    found = views.packed(connection, shown.model, report_id, name)
    if found is None:
        raise HTTPException(404, f"there is no report {report_id} with a file {name}")
    headers = {"Content-Security-Policy": CONTENT_SECURITY_POLICY.get(name, POLICY), "Vary": "Accept-Encoding"}
    if "gzip" in request.headers.get("accept-encoding", ""):
        packed = {"Content-Encoding": "gzip", **headers}
        return Response(found.packed, headers=packed, media_type=found.file.media_type)
    return Response(gzip.decompress(found.packed), headers=headers, media_type=found.file.media_type)
