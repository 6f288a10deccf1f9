"""Whose turn it is: the rows that wait in one lane, and which of them go next.

Brief jobs, each less than a short batch, go in the order of their arrival. Long ones go in theirs, for a
turn each: one that is nearly done is not kept waiting for the sake of one that has just begun. While both
wait, a part of every batch is the long jobs', and the rest the brief ones': so a single row behind a hundred
thousand is in the very next batch, and the hundred thousand go on behind any number of single rows.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Final

from service.batch import Job, Piece
from service.costs import Costs

SHARES: Final = 4  # one of so many parts of a batch is the long jobs'
TURN_MS: Final = 25.0  # of work on one long job, before the next has its turn

Ring = OrderedDict[Job, None]


class Turns:
    """The jobs that wait.

    Args:
        costs: say what is brief, and how long a turn is.
        heaviest: as much as one job can weigh.

    Attributes:
        rows: that wait.
        weight: the same, but of a job no more than ``heaviest``: it takes turns, so no one job fills a queue.
    """

    def __init__(self, costs: Costs, heaviest: int) -> None:
        self.rows = self.weight = 0
        self._brief: Ring = OrderedDict()
        self._long: Ring = OrderedDict()
        self._brief_rows = costs.short_rows
        self._turn_rows = max(1, int(TURN_MS / costs.row_ms))
        self._heaviest = heaviest
        self._waiting_brief = 0  # rows
        self._next_turns = 0  # rows of the next turn of every long job
        self._owed = 0.0  # rows, to the long jobs

    def __len__(self) -> int:
        return len(self._brief) + len(self._long)

    def __iter__(self) -> Iterator[Job]:
        yield from self._brief
        yield from self._long

    def weigh(self, rows: int) -> int:
        """What a job of so many rows adds to the weight."""
        return rows if rows < self._heaviest else self._heaviest

    def ahead(self, rows: int) -> int:
        """How many rows of others go before the last row of a job that comes now, about."""
        if rows <= self._brief_rows:
            return self._waiting_brief
        turns = -(-rows // self._turn_rows)
        return min(self.rows, self._waiting_brief + turns * self._next_turns)

    def join(self, job: Job) -> None:
        """Wait, behind those who are there."""
        self._ring(job)[job] = None
        self._count(job, 1)

    def leave(self, job: Job) -> int:
        """Wait no longer; how many rows of it did."""
        ring = self._ring(job)
        if job not in ring:
            return 0
        del ring[job]
        self._count(job, -1)
        return job.rows - job.taken

    def clear(self) -> None:
        """Nobody waits any more."""
        for job in list(self):
            self.leave(job)

    def take(self, room: int, wanted: Callable[[Job], bool]) -> list[Piece]:
        """The next rows, at most ``room``.

        Args:
            wanted: whether somebody waits for a job, asked when its turn comes; otherwise it leaves.
        """
        pieces: dict[Job, Piece] = {}
        owed = self._owe(room)
        room = self._serve(self._brief, room - owed, wanted, pieces) + owed
        room = self._serve(self._long, room, wanted, pieces)
        self._serve(self._brief, room, wanted, pieces)
        return list(pieces.values())

    def _owe(self, room: int) -> int:
        """How much of a batch is kept for the long jobs, while brief ones wait too."""
        self._owed = self._owed + room / SHARES if self._long and self._brief else 0.0
        owed = int(self._owed)
        self._owed -= owed
        return owed

    def _serve(self, ring: Ring, room: int, wanted: Callable[[Job], bool], pieces: dict[Job, Piece]) -> int:
        """Take rows from one ring; how much room is left."""
        while room and ring:
            job = next(iter(ring))
            if not wanted(job):
                self.leave(job)
                continue
            rows = min(room, job.rows - job.taken, self._turn_rows - job.turn if ring is self._long else room)
            if job in pieces:
                pieces[job].rows += rows
            else:
                pieces[job] = Piece(job, job.taken, rows)
            room -= rows
            self._go(ring, job, rows)
        return room

    def _go(self, ring: Ring, job: Job, rows: int) -> None:
        """Some rows of a job are in a batch; who has had a turn goes behind the others."""
        self._count(job, -1)
        job.taken += rows
        job.turn += rows
        if job.taken == job.rows:
            del ring[job]
            return
        self._count(job, 1)
        if ring is self._long and job.turn >= self._turn_rows:
            job.turn = 0
            ring.move_to_end(job)

    def _ring(self, job: Job) -> Ring:
        return self._brief if job.rows <= self._brief_rows else self._long

    def _count(self, job: Job, sign: int) -> None:
        rows = job.rows - job.taken
        self.rows += sign * rows
        self.weight += sign * (rows if rows < self._heaviest else self._heaviest)
        if job.rows <= self._brief_rows:
            self._waiting_brief += sign * rows
        else:
            self._next_turns += sign * min(rows, self._turn_rows)
