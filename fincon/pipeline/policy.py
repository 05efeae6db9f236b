"""Say what is to be left out of all that is written."""

from fincon import privacy
from fincon.lake.incremental import last_pii
from fincon.lake.tables import Lake
from fincon.lake.upgrade import refuse_newer
from fincon.pipeline.key_mode import refuse_other_mode
from fincon.settings import Settings
from fincon.storage.data_folder import DataFolder
from fincon.transforms.redaction import Privacy
from fincon.transforms.schemas import ERASURES


def current_policy(settings: Settings, *, owners: bool) -> tuple[Privacy, privacy.Erased]:
    """Return the choice about personal data that a run would make which says nothing of it, and who was erased.

    Raises:
        UsageError: the key is of another mode than the folder, or a newer fincon wrote that; or data is to be hashed, and the
            key for it is missing or is not the last run's.
    """
    refuse_newer(settings.data)
    with Lake(DataFolder(settings.data).lake) as lake:
        refuse_other_mode(settings, lake)
        chosen = privacy.choose_policy(None, last_pii(lake), settings.pii_key, owners=owners)
        records = lake.records(ERASURES, "action", "identity_hash")
        return privacy.resolve_policy(chosen, settings.pii_key), privacy.known_erasures(
            settings.data, records
        )
