"""The log on standard error: what happened, how grave it is, when, and in which run; as lines or as JSON."""

import json
import logging
import sys
import time

from fincon.settings import log_settings
from fincon.transforms.identities import mask_ids

LOG = logging.getLogger("fincon")


class Lines(logging.Formatter):
    """A record as one line: time in UTC, level, run, message. Without ids of anybody."""

    def format(self, record: logging.LogRecord) -> str:
        """Write it."""
        run = getattr(record, "run_id", "")
        return " ".join(filter(None, (at(record), f"{record.levelname:7}", run, message(record))))


class Json(logging.Formatter):
    """A record as one JSON object on a line."""

    def format(self, record: logging.LogRecord) -> str:
        """Write it."""
        said = {"time": at(record), "level": record.levelname.lower(), "message": message(record)}
        if run_id := getattr(record, "run_id", ""):
            said["run_id"] = run_id
        return json.dumps(said, ensure_ascii=False)


def at(record: logging.LogRecord) -> str:
    """Return when it was said: ISO 8601, UTC, milliseconds."""
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(record.created))}.{record.msecs:03.0f}Z"


def message(record: logging.LogRecord) -> str:
    """Return what was said, on one line and without ids."""
    return mask_ids(record.getMessage()).replace("\n", " ")


def write_log(form: str | None, *, verbose: bool) -> None:
    """Write the log from now on, where `FINCON_LOG`, ``--log-format`` or ``--verbose`` asks for one.

    Raises:
        UsageError: a variable names a level or form that there is not.
    """
    level, form_set = log_settings()
    if verbose:
        level = min(level or logging.INFO, logging.INFO)
    elif level is None and (form or form_set):
        level = logging.INFO
    handler = logging.NullHandler() if level is None else logging.StreamHandler(sys.stderr)
    handler.setFormatter(Json() if (form or form_set) == "json" else Lines())
    LOG.handlers = [handler]
    LOG.setLevel(level or logging.NOTSET)
    LOG.propagate = level is None
