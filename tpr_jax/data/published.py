"""What was published about each dataset: the one place where these numbers stand.

COUNTS: images, captions, identities of each split and of the whole, from the papers
and release notes. Where two figures are in print, both are accepted. WORDS: Table 1 of
the UFineBench paper (Zuo et al., CVPR 2024): longest, shortest and mean number of words
of a caption and the number of unique words. Of sets to pre-train on, both are those of
the table of GA-DMS (Zheng et al., arXiv:2509.09118), which has no more of WORDS than
the last, and nothing of SDA, whose counts are its authors' (Yang et al.,
arXiv:2507.10195); each image is an identity there.
"""

from typing import NamedTuple


class Counts(NamedTuple):
  """Accepted figures; usually one each."""

  images: tuple[int, ...]
  captions: tuple[int, ...]
  identities: tuple[int, ...]


class Words(NamedTuple):
  """Words of captions over a whole dataset."""

  longest: int | None
  shortest: int | None
  mean: float | None
  unique: int


def _counts(images, captions, identities):
  figures = (images, captions, identities)
  return Counts(*(n if isinstance(n, tuple) else (n,) for n in figures))


COUNTS: dict[str, dict[str, Counts]] = {
  "cuhk_pedes": {
    "train": _counts(34_054, 68_126, 11_003),
    "val": _counts(3_078, 6_158, 1_000),
    "test": _counts(3_074, 6_156, 1_000),
    # The splits add up to 80,440; the paper and most tables print 80,412.
    "all": _counts(40_206, (80_440, 80_412), 13_003),
  },
  "icfg_pedes": {
    "train": _counts(34_674, 34_674, 3_102),
    "test": _counts(19_848, 19_848, 1_000),
    "all": _counts(54_522, 54_522, 4_102),
  },
  "rstpreid": {
    "train": _counts(18_505, 37_010, 3_701),
    "val": _counts(1_000, 2_000, 200),
    "test": _counts(1_000, 2_000, 200),
    # The UFineBench paper prints 51,010; two captions an image make 41,010.
    "all": _counts(20_505, 41_010, 4_101),
  },
  "ufine6926": {
    "train": _counts(18_577, 37_154, 4_926),
    "test": _counts(7_629, 15_258, 2_000),
    "all": _counts(26_206, 52_412, 6_926),
  },
  "ufine3c": {"test": _counts(7_446, 37_939, 2_250)},
  # Released whole, and as 1,000,000 images.
  "webperson": {
    "train": _counts(
      (5_002_723, 1_000_000), (10_005_446, 2_000_000), (5_002_723, 1_000_000)
    ),
  },
  "luperson_mllm": {"train": _counts(1_020_022, 2_037_239, 1_020_022)},
  "mals": {"train": _counts(1_510_330, 1_510_330, 1_510_330)},
  # The authors (PLIP, arXiv:2305.08386) print 4,791,711 images and 312,321 identities.
  "synth_pedes": {
    "train": _counts(
      (4_791_771, 4_791_711), 12_138_157, (4_791_771, 4_791_711, 312_321)
    ),
  },
  "luperson_t": {"train": _counts(957_606, 1_277_991, 957_606)},
  "sda": {"train": _counts(1_217_750, 1_217_750, 1_217_750)},
}

WORDS: dict[str, Words] = {
  "cuhk_pedes": Words(96, 15, 23.5, 9_408),
  "icfg_pedes": Words(83, 9, 37.2, 5_790),
  "rstpreid": Words(70, 11, 26.5, 3_138),
  "ufine6926": Words(218, 30, 80.8, 8_475),
  "webperson": Words(None, None, None, 96_623),
  "luperson_mllm": Words(None, None, None, 39_566),
  "mals": Words(None, None, None, 4_772),
  "synth_pedes": Words(None, None, None, 8_598),
  "luperson_t": Words(None, None, None, 459),
}

# Said when the counts of a set differ: the causes that users of these sets ran into.
HINTS: dict[str, str] = {
  "rstpreid": (
    "two divisions of RSTPReid are in circulation: 3,901/100/100 identities (early "
    "copies) and 3,701/200/200 (what papers report on)"
  ),
  "ufine6926": (
    "other people in the layout of UFine6926 (rendered ones, your own) will differ"
  ),
  "luperson_mllm": (
    "the printed number of texts is two an image; the authors' four files of captions "
    "make up to four"
  ),
  "synth_pedes": "the option sample draws some of the records",
  "luperson_t": "the option drop_last leaves rows out",
}
