"""Logs on stderr under -v: structured, redacted, in one format for people and one for machines."""

import logging
import os
import sys
from collections.abc import MutableMapping
from typing import TYPE_CHECKING, Any

import structlog

from cli.failures import SECRET_VARIABLES
from ledger.domain.redact import redact

if TYPE_CHECKING:
    from collections.abc import Callable

    from ledger.flows.services import Stage


def configure(verbosity: int, log_format: str) -> None:
    """Sends every logger of this process to stderr: once for INFO, twice for DEBUG."""
    secrets = [value for name in SECRET_VARIABLES if (value := os.environ.get(name, "").strip())]

    def redacted(_logger: Any, _method: str, fields: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        return {name: redact(value, secrets) if isinstance(value, str) else value for name, value in fields.items()}

    renderer: Any = (
        structlog.processors.JSONRenderer() if log_format == "json" else structlog.dev.ConsoleRenderer(colors=False)
    )
    shared: list[Any] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.ExtraAdder(), *shared],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, redacted, renderer],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.DEBUG if verbosity > 1 else logging.INFO)
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
    )


def logged(tell: "Callable[[Stage], None]") -> "Callable[[Stage], None]":
    """The same teller, with each stage of a flow in the log as well, under its lease's id."""
    logger = structlog.get_logger("rentroll")

    def both(stage: "Stage") -> None:
        logger.info(stage.name, lease_id=stage.lease_id, slug=stage.slug, detail=stage.detail)
        tell(stage)

    return both
