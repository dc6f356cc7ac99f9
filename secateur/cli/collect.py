"""`secateur gc`: free what nothing names."""

from __future__ import annotations

from secateur.cli.output import print_json, print_table, say
from secateur.steps.collect import collect
from secateur.store import COLLECTED, Entry, open_store


def gc(store: str, *, is_real: bool, as_json: bool) -> None:
    """Free what nothing in a store names, or show what that would be.

    Raises:
        StudyBusyError: Somebody runs a study, or cleans the store already.
        StoreError: A document cannot be read: nothing is freed then.
    """
    opened = open_store(store)
    garbage = collect(opened, is_real=is_real)
    if as_json:
        print_json(
            {
                "store": opened.url,
                "is_freed": is_real,
                "num_freed": len(garbage.freed),
                "freed_bytes": garbage.freed_bytes,
                "num_kept": garbage.num_kept,
                "kept_bytes": garbage.kept_bytes,
                "freed": [entry.key for entry in garbage.freed],
            }
        )
        return
    rows = [_row(prefix, [entry for entry in garbage.freed if entry.key.startswith(prefix)]) for prefix in COLLECTED]
    print_table(f"{opened.url}: what nothing names", ("what", "number", "MB"), rows)
    say(f"Kept: {garbage.num_kept:,}, {_megabytes(garbage.kept_bytes)} MB.")
    if is_real:
        say(f"Freed: {_megabytes(garbage.freed_bytes)} MB.")
    elif garbage.freed:
        say("Nothing was deleted. 'secateur gc --yes' does it.")


def _row(prefix: str, entries: list[Entry]) -> tuple[str, ...]:
    return prefix.removesuffix("/"), f"{len(entries):,}", _megabytes(sum(entry.size_bytes for entry in entries))


def _megabytes(size_bytes: int) -> str:
    return f"{size_bytes / 1e6:,.1f}"
