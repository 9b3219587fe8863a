"""Device memory: pages of its own for every array, between two pages that may not be touched."""

from __future__ import annotations

import ctypes
import mmap
import weakref

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
_libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
_libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
_FAILED = ctypes.c_void_p(-1).value
_PAGE = mmap.PAGESIZE
_ALIGNMENT = 16  # what a float4 load needs; the device's own allocations have 256
_POISON = 0xFF  # NaN in every float type, -1 in every integer


class OutOfMemoryError(MemoryError):
    """The emulated device has no room left."""

    def __init__(self, wanted: int, used: int, limit: int) -> None:
        super().__init__(
            f"Out of memory allocating {wanted:,} bytes (allocated so far: {used:,} bytes, limit {limit:,})"
        )


class Pool:
    """What is allocated, and the device's size, which a test may lower."""

    def __init__(self) -> None:
        self.limit = 1 << 30
        self.used = 0
        self.peak = 0
        self.live: weakref.WeakSet[Allocation] = weakref.WeakSet()


pool = Pool()


class Allocation:
    """Poisoned bytes that end at the upper guard page, to within the alignment; the slack is watched."""

    def __init__(self, size: int) -> None:
        if pool.used + size > pool.limit:
            raise OutOfMemoryError(size, pool.used, pool.limit)
        self.size = size
        room = -(-max(size, 1) // _PAGE) * _PAGE
        base = _libc.mmap(None, room + 2 * _PAGE, 3, 0x22, -1, 0)
        if base in (None, _FAILED):
            raise OutOfMemoryError(size, pool.used, pool.limit)
        _libc.mprotect(base, _PAGE, 0)
        _libc.mprotect(base + _PAGE + room, _PAGE, 0)
        self._start, self._room = base + _PAGE, room
        self.ptr = (self._start + room - size) & ~(_ALIGNMENT - 1)
        ctypes.memset(self._start, _POISON, room)
        pool.used += size
        pool.peak = max(pool.peak, pool.used)
        pool.live.add(self)
        weakref.finalize(self, _release, base, room + 2 * _PAGE, size)

    def slack_touched(self) -> bool:
        """Whether something was written beside the array: up to 16 bytes behind it, a page's rest before it."""
        before, behind = self.ptr - self._start, self._start + self._room - self.ptr - self.size
        slack = ctypes.string_at(self._start, before) + ctypes.string_at(self.ptr + self.size, behind)
        return slack.count(_POISON) != len(slack)


def _release(base: int, length: int, size: int) -> None:
    _libc.munmap(base, length)
    pool.used -= size


def allocation_of(address: int) -> Allocation | None:
    """The allocation that an address lies in."""
    return next((a for a in pool.live if a.ptr <= address < a.ptr + max(a.size, 1)), None)
