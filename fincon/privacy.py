"""Which choice a run makes about personal data, so that no run undoes what one before it did."""

from fincon.errors import UsageError
from fincon.settings import Secret
from fincon.transforms.personal import Choice, Privacy

NAME = "FINCON_PII_KEY"


def choose(asked: Choice | None, last: str, key: Secret | None, *, owners: bool) -> str:
    """What ``--pii`` asks for; else what the folder's last run did that made a choice (``last``). As `Privacy.mark`.

    Where none did, personal data is hashed if ``owners`` are asked for, and what accounts say of themselves is kept.

    Raises:
        UsageError: data is to be hashed, and the key is missing or is not the last run's.
    """
    before, _, _ = last.partition(":")
    choice = asked or before or ("hash" if owners else "")
    if choice != "hash":
        return choice
    return of(last if before == "hash" else choice, key).mark


def of(mark: str, key: Secret | None) -> Privacy:
    """The choice that a mark stands for, with the key; ``hash`` alone stands for whichever key there is.

    Raises:
        UsageError: the key is missing, or is not the one whose fingerprint the mark has.
    """
    choice, _, fingerprint = mark.partition(":")
    if choice != "hash":
        return Privacy("drop" if choice == "drop" else "keep", chosen=bool(choice))
    if key is None:
        raise UsageError(
            f"Names are to be hashed (--pii hash, or the choice of this folder), and {NAME} is not set.",
            f"Set {NAME} to a secret of 16 characters or more, the same for every run; or choose --pii drop or keep.",
        )
    privacy = Privacy("hash", key.reveal().encode(), chosen=True)
    if fingerprint and privacy.mark != mark:
        raise UsageError(
            f"{NAME} is not the key that this folder's last run hashed with: people would no longer join.",
            "Use that key. If it is lost, sync once with --pii drop, then with --pii hash and the new key.",
        )
    return privacy
