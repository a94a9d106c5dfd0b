"""What `run --download` fetches once the command has ended."""

from typing import TYPE_CHECKING

from cli.copying import CopyProgress, copier
from ledger.domain.errors import RentrollError
from ledger.flows.copy import download
from ledger.flows.work import endpoint_of, place_of

if TYPE_CHECKING:
    from cli.app import App
    from cli.asked import Download
    from ledger.domain.state import Lease


def fetch(app: "App", lease: "Lease", wanted: "Download", *, quiet: bool) -> RentrollError | None:
    """Fetches one file or folder; gives why it could not."""
    from cli.clock import SystemClock

    try:
        with CopyProgress(app, quiet=quiet) as progress:
            download(
                copier(app),
                place_of(lease),
                wanted.remote,
                wanted.local,
                endpoint=endpoint_of(lease),
                clock=SystemClock(app.random_token()),
                watcher=progress,
            )
    except RentrollError as failure:
        return failure
    return None
