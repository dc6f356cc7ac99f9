"""What else the host was busy with meanwhile, as /proc tells it; nothing where it does not."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

PROC = Path("/proc")
BUSY_SHARE = 0.01
"""Of the host's time: processes that took less are not counted."""


class Bystanders:
    """The CPU time that others take from now on.

    Args:
        host_lock: The file that work of ours holds a shared lock on (see `secateur.turns`); None: whose work it is, is
            not told apart.
        proc: Where the kernel tells.
    """

    def __init__(self, host_lock: str | None, proc: Path = PROC) -> None:
        self._proc = proc
        self._host_lock = host_lock
        self._host, self._processes, self._ours = self._look()

    def told(self) -> dict[str, Any]:
        """Return what they took so far, each share being of the host's time, all cores together.

        Returns:
            `ours_share`: of those who asked, train, generate or measure; `others_share`: of all else, `num_others` of
            which took a percent or more; `stolen_share`: of the hypervisor; `busiest`: the name, number and share
            of the process that took most. Empty where the host does not tell.
        """
        host, processes, ours = self._look()
        total, idle, stolen = (now - before for now, before in zip(host, self._host))  # noqa: B905 (Python 3.8)
        if total <= 0:
            return {}
        spent = {pid: ticks - self._processes.get(pid, ("", 0))[1] for pid, (_, ticks) in processes.items()}
        own = spent.pop(os.getpid(), 0)
        of_ours = {pid: ticks for pid, ticks in spent.items() if pid in ours | self._ours}
        of_others = {pid: ticks for pid, ticks in spent.items() if pid not in of_ours}
        others = max(0, total - idle - stolen - own - sum(of_ours.values()))
        found: dict[str, Any] = {
            "ours_share": round(sum(of_ours.values()) / total, 4),
            "others_share": round(others / total, 4),
            "num_others": sum(ticks >= BUSY_SHARE * total for ticks in of_others.values()),
            "stolen_share": round(stolen / total, 4),
        }
        busiest = max(spent, key=lambda pid: spent[pid], default=None)
        if busiest is not None and spent[busiest] >= BUSY_SHARE * total:
            found["busiest"] = f"{processes[busiest][0]} ({busiest}): {spent[busiest] / total:.0%}"
        return found

    def _look(self) -> tuple[tuple[int, int, int], dict[int, tuple[str, int]], set[int]]:
        """Return ticks of the host (all, idle, stolen), name and ticks of each process, and which are ours."""
        return self._host_ticks(), dict(self._process_ticks()), {os.getppid(), *self._holders()}

    def _host_ticks(self) -> tuple[int, int, int]:
        try:
            line = (self._proc / "stat").read_text(encoding="utf-8").splitlines()[0]
            _, _, _, idle, waiting, _, _, stolen = ticks = [int(field) for field in line.split()[1:9]]
        except (OSError, ValueError, IndexError):
            return 0, 0, 0
        return sum(ticks), idle + waiting, stolen

    def _process_ticks(self) -> Any:
        for path in self._proc.glob("[0-9]*/stat"):
            try:
                name, _, rest = path.read_text(encoding="utf-8", errors="replace").partition("(")[2].rpartition(")")
                fields = rest.split()
                yield int(path.parent.name), (name, int(fields[11]) + int(fields[12]))
            except (OSError, ValueError, IndexError):
                continue  # it has ended

    def _holders(self) -> set[int]:
        if self._host_lock is None:
            return set()
        try:
            inode = os.stat(self._host_lock).st_ino  # noqa: PTH116 (it may be absent)
            lines = (self._proc / "locks").read_text(encoding="utf-8").splitlines()
        except OSError:
            return set()
        fields = [line.split() for line in lines if " FLOCK " in line and "->" not in line]
        return {int(pid) for _, _, _, _, pid, file, *_ in fields if file.endswith(f":{inode}")}
