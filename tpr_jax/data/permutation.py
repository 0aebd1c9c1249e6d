"""A permutation of n things that nothing needs to be stored for, whatever n is.

A generalised Feistel cipher with cycle-walking (Black & Rogaway, "Ciphers with
arbitrary finite domains", CT-RSA 2002): with a b >= n, a place x is a pair
(x mod a, x div a), and each round adds a pseudo-random function of one half to the
other, modulo a or b in turn:

  (l, r) -> (r, (l + F_key(r)) mod a or b).

Every round can be undone, so all of them are a bijection of 0 .. a b - 1; a result that
is n or more goes through it again until it is below n, which is a bijection of
0 .. n - 1. With a = ceil(sqrt(n)) and b = ceil(n / a) fewer than a results lie outside,
so this is rare. F is a multiply-and-shift mixer of 64 bits (the finaliser of
SplitMix64; Steele, Lea & Flood, OOPSLA 2014): good enough to shuffle by, no cipher.

Departure: the paper takes three rounds of ideal functions; with this F all orders of
5 or 6 things are equally likely (tests/data/test_permutation.py) from 12 rounds on.
"""

import math
from collections.abc import Sequence

ROUNDS = 14  # even: then the halves are where they began
_64 = 2**64 - 1


class Permutation:
  """place in 0 .. size - 1 -> another one; a bijection that `keys` decide.

  Args:
    size: 1 or more.
    keys: ROUNDS numbers of 64 bits.
  """

  def __init__(self, size: int, keys: Sequence[int]):
    if size < 1 or len(keys) != ROUNDS:
      raise ValueError(
        f"a permutation of {size} things with {len(keys)} keys: expected 1 thing or "
        f"more and {ROUNDS} keys"
      )
    self.size = size
    self._low = math.isqrt(size - 1) + 1  # the ceiling of the root
    self._high = -(-size // self._low)
    self._keys = tuple(int(key) for key in keys)

  def __call__(self, place: int) -> int:
    if not 0 <= place < self.size:
      raise IndexError(f"place {place} of a permutation of {self.size}")
    low, high, found = self._low, self._high, place
    while True:
      right, left = divmod(found, low)  # left < low, right < high
      for number, x in enumerate(self._keys):
        x ^= right
        x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & _64
        x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & _64
        x ^= x >> 31
        left, right = right, (left + x) % (high if number & 1 else low)
      found = left + right * low
      if found < self.size:
        return found
