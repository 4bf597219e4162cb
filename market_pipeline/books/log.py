"""What the kernels write beside the book's rows: its repairs, and the evidence about it."""

from __future__ import annotations

from market_pipeline.books import cursor as at
from market_pipeline.books import registers as reg
from market_pipeline.books.state import Proof
from market_pipeline.jit import kernel

__all__ = ["give_evidence", "write_repair"]

_MATCH = int(Proof.MATCH)
_ADOPTED = int(Proof.ADOPTED)
_EXPLAINED = int(Proof.EXPLAINED)


@kernel
def write_repair(registers, repairs, cursor, kind, receipt, sequence, levels, low, high):
    """Writes the next row of `Repairs`, shown in the next message to be closed."""
    row = cursor[at.REPAIR_ROW]
    cursor[at.REPAIR_ROW] = row + 1
    repairs.kind[row] = kind
    repairs.message[row] = registers[reg.MESSAGES]
    repairs.ts_receipt_ns[row] = receipt
    repairs.sequence_number[row] = sequence
    repairs.levels[row] = levels
    repairs.low_ticks[row] = low
    repairs.high_ticks[row] = high


@kernel
def give_evidence(registers, evidence, cursor, kind, message, receipt, sequence, levels, differing):
    """Writes the next row of `Evidence`, and keeps what is in doubt."""
    row = cursor[at.EVIDENCE_ROW]
    cursor[at.EVIDENCE_ROW] = row + 1
    evidence.kind[row] = kind
    evidence.message[row] = message
    evidence.ts_receipt_ns[row] = receipt
    evidence.sequence_number[row] = sequence
    evidence.levels[row] = levels
    evidence.differing[row] = differing
    if kind in (_MATCH, _ADOPTED):
        registers[reg.LAST_ANCHOR] = message
        registers[reg.SOFT_DOUBTS] = 0
        registers[reg.HARD_DOUBTS] = 0
    elif kind == _EXPLAINED:
        registers[reg.SOFT_DOUBTS] = 0
