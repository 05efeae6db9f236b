"""Say numbers as a person does."""


def pluralize(count: int, what: str, many: str = "") -> str:
    """Return ``1 page``, ``1,234 pages``; ``many`` is the plural where it takes more than an s."""
    return f"{count:,} {what if count == 1 else many or what + 's'}"


def duration(seconds: float) -> str:
    """Return about how long that is: ``40 s``, ``67 min``, ``3.5 h``."""
    if seconds < 100:
        return f"{max(1, round(seconds))} s"
    return f"{seconds / 60:,.0f} min" if seconds < 100 * 60 else f"{seconds / 3600:,.1f} h"
