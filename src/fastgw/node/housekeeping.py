"""The node's part in the spool's upkeep: what the recorder has committed may go, the rest only for the cap."""

import time
from pathlib import Path

from fastgw.recorder.offsets import State, StateError
from fastgw.recorder.recorder import recorded
from fastgw.state.spool import TAKEN, Cleaned, janitor, spool_dir

MARGIN_S = 60.0


class Housekeeper:
    """Runs the janitor with what the recorder says. Blocking, and for one thread at a time.

    Segments the recorder has done with stay for another minute of this process's life: readers that began before the
    commit, and whoever settles what a dead worker left, still find them.
    """

    def __init__(self, data_dir: Path, margin_s: float = MARGIN_S) -> None:
        self._data_dir = data_dir
        self._margin = margin_s
        self._since: dict[str, float] = {}

    def clean(self, cap_bytes: int, *, refuse: bool = False) -> Cleaned:
        """Delete what is settled, and what is too much. Raises OSError.

        Where calls are refused instead (``records.when_full``) nothing unread is too much, and what was taken goes once
        the spool is at half its cap: workers make no segment beyond it.
        """
        state = self._recorded()
        now = time.monotonic()
        # A damaged segment is left for people to look at, as long as there is room.
        done = [name for name, position in state.segments.items() if position.done and not position.damaged]
        self._since = {name: self._since.get(name, now) for name in done}
        taken = {name: TAKEN if position.done else position.offset for name, position in state.segments.items()}
        settled = [name for name, since in self._since.items() if now - since >= self._margin]
        directory = spool_dir(self._data_dir)
        if refuse:
            return janitor(directory, cap_bytes // 2, taken=taken, settled=settled, keep_unread=True)
        return janitor(directory, cap_bytes, taken=taken, settled=settled)

    def _recorded(self) -> State:
        try:
            return recorded(self._data_dir)
        except StateError:  # the recorder tells of it; until it is mended everything counts as unread
            return State()
