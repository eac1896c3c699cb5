"""Parse the output of ptxas and cuobjdump: registers, spills, matrix products and loads of kernels.

A global load is in flight from the instruction that issues it to the first instruction that names
one of the registers that it fills. A copy from global to shared memory (LDGSTS) fills no register:
it is in flight until the next wait for copies (DEPBAR). The code is read from top to bottom, so
loads that a loop keeps in flight from one iteration to the next are not added.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass

INSTRUCTION = re.compile(
    r"^\s+/\*([0-9a-f]{4,})\*/\s+(?:(@!?U?P\w+)\s+)?([A-Z][\w.]*)\s*([^;]*);", re.MULTILINE
)
REGISTER = re.compile(r"\bR(\d+)((?:\.\w+)*)")
BITS = {"U8": 8, "S8": 8, "U16": 16, "S16": 16, "64": 64, "128": 128}


@dataclass(frozen=True)
class Instruction:
    """One line of SASS.

    address: bytes from the kernel's start. operands: the text after the opcode. conditional:
    whether a predicate decides if it runs.
    """

    address: int
    opcode: str
    operands: str
    conditional: bool

    def is_a(self, *names: str) -> bool:
        return self.opcode.split(".")[0] in names

    @property
    def bits(self) -> int:
        """Bits that one thread loads or stores."""
        return next((BITS[part] for part in self.opcode.split(".") if part in BITS), 32)

    @property
    def registers(self) -> set[int]:
        """The registers of the operands. SASS names only the first register of a wide operand."""
        data = re.sub(r"\[.*?\]", "", self.operands)
        address = " ".join(re.findall(r"\[.*?\]", self.operands))
        wide = 1
        if self.is_a("HMMA"):
            wide = 4
        elif self.is_a("LDG", "LD", "STG", "LDS", "STS", "LDL", "STL"):
            wide = max(1, self.bits // 32)
        return _covered(data, wide) | _covered(address, 1)

    @property
    def target(self) -> int | None:
        """The address that a branch jumps to; None for other instructions."""
        match = re.search(r"0x([0-9a-f]+)", self.operands) if self.is_a("BRA") else None
        return int(match[1], 16) if match else None


def _covered(operands: str, wide: int) -> set[int]:
    """The registers of all operands in the text.

    Each operand covers the register that it names and those that follow: `wide` registers in total,
    and at least two if it has the suffix .64.
    """
    registers: set[int] = set()
    for number, suffix in REGISTER.findall(operands):
        count = max(wide, 2 if ".64" in suffix else 1)
        registers.update(range(int(number), int(number) + count))
    return registers


def functions(text: str) -> dict[str, list[Instruction]]:
    """The instructions of each kernel by mangled name. text: output of `cuobjdump -sass`."""
    _, *parts = re.split(r"^\s*Function : (\S+)\s*$", text, flags=re.MULTILINE)
    return {
        name: [
            Instruction(int(address, 16), opcode, operands, bool(guard) or "P" in operands)
            for address, guard, opcode, operands in INSTRUCTION.findall(body)
        ]
        for name, body in zip(parts[::2], parts[1::2], strict=True)
    }


def most_in_flight(code: list[Instruction]) -> dict[int, int]:
    """The largest number of global loads in flight at one place of the code, by width in bits."""
    flying: list[tuple[int, frozenset[int]]] = []  # (width, registers to fill), none for a copy
    most: Counter[int] = Counter()
    for one in code:
        used = one.registers
        flying = [
            (bits, filled)
            for bits, filled in flying
            if not filled & used and (filled or not one.is_a("DEPBAR"))
        ]
        if one.is_a("LDG", "LD", "LDGSTS"):
            target = one.operands.split(",")[0] if not one.is_a("LDGSTS") else ""
            flying.append((one.bits, frozenset(_covered(target, max(1, one.bits // 32)))))
            for bits, number in Counter(bits for bits, _ in flying).items():
                most[bits] = max(most[bits], number)
        elif one.is_a("EXIT", "RET") or (one.is_a("BRA") and not one.conditional):
            flying = []
    return dict(sorted(most.items()))


def loading_loops(code: list[Instruction]) -> list[dict]:
    """Counts of one iteration of each innermost loop with global loads, in the code's order."""
    ends = {
        (one.target, one.address)
        for one in code
        if one.target is not None and one.target < one.address
    }
    inner = [
        (a, b)
        for a, b in ends
        if not any(other != (a, b) and a <= other[0] and other[1] <= b for other in ends)
    ]
    loops = [[one for one in code if a <= one.address <= b] for a, b in sorted(inner)]
    return [
        {
            "instructions": len(loop),
            "loads": loads_by_width(loop),
            "hmma": sum(one.is_a("HMMA") for one in loop),
        }
        for loop in loops
        if any(one.is_a("LDG", "LD", "LDGSTS") for one in loop)
    ]


def loads_by_width(code: list[Instruction]) -> dict[int, int]:
    """The number of global loads in the code, by width in bits."""
    widths = Counter(one.bits for one in code if one.is_a("LDG", "LD", "LDGSTS"))
    return dict(sorted(widths.items()))


def counts(code: list[Instruction]) -> dict:
    """Counts of a kernel's instructions; each counts once, however often it runs."""
    return {
        "instructions": len(code),
        "hmma": sum(one.is_a("HMMA") for one in code),
        "lds": sum(one.is_a("LDS") for one in code),
        "loads": loads_by_width(code),
        "in_flight": most_in_flight(code),
        "loops": loading_loops(code),
    }


def resources(text: str) -> dict[str, dict]:
    """Resources of each kernel by mangled name. text: output of `ptxas -v`.

    They are the number of registers, and the bytes of spill stores, stack and static shared memory.
    """
    _, *parts = re.split(r"Compiling entry function '(\S+)'", text)
    patterns = {
        "registers": r"Used (\d+) registers",
        "spilled": r"(\d+) bytes spill stores",
        "stack": r"(\d+) bytes stack frame",
        "static_shared": r"(\d+) bytes smem",
    }
    kernels = {}
    for name, lines in zip(parts[::2], parts[1::2], strict=True):
        matches = {what: re.search(pattern, lines) for what, pattern in patterns.items()}
        kernels[name] = {what: int(match[1]) if match else 0 for what, match in matches.items()}
    return kernels
