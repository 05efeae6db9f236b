"""Tell Prefect of each table as an asset: made from Stripe by the step that publishes, with its rows and how fresh it is."""

import re
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from prefect.assets import Asset, AssetProperties, add_asset_metadata, materialize
from prefect.tasks import MaterializingTask

from fincon.settings import Settings
from fincon.storage.s3 import DataPath
from fincon.transforms.schemas import OBJECT_TABLES, Table
from fincon.warehouse.connection import connect
from fincon.warehouse.status import tables

NO_KEY = re.compile(r"""[\s#?&%"'<>\[\]{}|\\^`\0]""")
"""What Prefect takes in no key of an asset."""


def asset_of(data: DataPath, table: Table) -> Asset:
    """Return a table of the lake in ``data`` as an asset: ``s3://bucket/folder/accounts``, ``file:///srv/lake/accounts``."""
    place = data.as_uri() if isinstance(data, Path) else str(data)
    properties = AssetProperties(name=table.name, description=table.meaning)
    return Asset(key=NO_KEY.sub("-", f"{place}/{table.name}"), properties=properties)


def publishing(
    settings: Settings, publish: Callable[..., Any], options: Mapping[str, Any]
) -> MaterializingTask[..., Any]:
    """Return the task that publishes and makes an asset of each table; what Prefect is told of them are counts and times."""
    assets = {table.name: asset_of(settings.data, table) for table in OBJECT_TABLES}
    stripe = Asset(key=f"{settings.api_base}/v1/financial_connections")

    def publish_tables(*args: Any) -> Any:
        published = publish(*args)
        with connect(settings.data) as views:
            found = tables(views)
        for name, asset in assets.items():
            add_asset_metadata(asset, {key: _plain(value) for key, value in found[name].items()})
        return published

    return materialize(*assets.values(), by="fincon", asset_deps=[stripe], **options)(publish_tables)


def _plain(value: Any) -> Any:
    return value.isoformat() if isinstance(value, datetime) else value
