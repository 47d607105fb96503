"""Results of uploads to earlier releases, which BentoML stored in a SQLite file for a day."""

from __future__ import annotations

from retail_core.errors import DependencyError
from retail_core.settings import Settings


def remove_former_results(settings: Settings) -> None:
    """Delete them; nothing reads them any more.

    Raises:
        DependencyError: a file cannot be deleted.
    """
    file = settings.former_upload_results
    for path in file.parent.glob(f"{file.name}*"):
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise DependencyError(
                f"{path} with results of uploads to an earlier release cannot be deleted: {error.strerror}.",
                remedy="delete it.",
            ) from error
