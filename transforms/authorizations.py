"""Authorizations, which events alone show → rows of ``authorizations``."""

import msgspec

from fincon.transforms.columns import Columns, active_details, fields, holder_columns
from fincon.transforms.parsed_objects import ParsedObjects
from fincon.transforms.schemas import AUTHORIZATIONS
from fincon.transforms.stripe_objects import (
    Authorization,
    AuthorizationDetails,
)

AS_THEY_ARE = ("institution", "institution_name", "display_name", "status", "livemode")


def authorization_tables(parsed: ParsedObjects) -> dict[str, Columns]:
    """The columns of ``authorizations``."""
    of = fields(Authorization, parsed.authorizations.objects)
    return {
        AUTHORIZATIONS.name: {
            "authorization_id": of["id"],
            **holder_columns(of["account_holder"]),
            **{name: of[name] for name in AS_THEY_ARE},
            "status_details": [details and _details(details) for details in of["status_details"]],
            "extra": parsed.authorizations.extra,
            "observed_at": parsed.authorizations.observed_at,
            "event_id": [event_id for event_id, _ in parsed.authorization_events],
            "absent": [absent for _, absent in parsed.authorization_events],
        }
    }


def _details(details: AuthorizationDetails) -> dict[str, object]:
    ended = details.inactive
    return {
        "active": active_details(details.active),
        "inactive": None if ended is None else msgspec.structs.asdict(ended),
    }
