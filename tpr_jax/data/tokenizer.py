"""Captions to token ids: CLIP's vocabulary by three routes, BERT's, and our own.

  build("people")          our byte-level BPE (people_bpe.json), for tiny models
  build("clip:PLACE")      transformers' CLIPTokenizer from a folder or a hub id
  build("merges:PATH")     the same, from CLIP's bpe_simple_vocab_16e6.txt(.gz)
  build("instant")         CLIP's vocabulary inside the instant-clip-tokenizer package
  build("json:FOLDER")     any tokenizer.json with our special tokens, as exports write
  build("bert:PLACE")      BERT's WordPiece from a folder or a hub id (wordpiece.py)
  build("people_wordpiece")  a small WordPiece of ours, for tiny models with BERT

Every route cleans the text first, as CLIP does (`clean`), so the CLIP routes give
the same ids. All vocabularies but WordPiece's end with their end token, so that
`argmax(ids)` finds the end of a caption; CLIP's text tower relies on it and refuses
others (`end_is_last`). Captions are data, never commands: `<|endoftext|>` typed inside
a caption is encoded as the ordinary characters it is made of, where CLIP's own
tokenizer would put a second end token there and move the place that the text feature is
read from.
"""

import abc
import functools
import gzip
import html
import importlib
import itertools
import json
import pathlib
import re
import tempfile
from collections.abc import Sequence

import ftfy
import numpy as np

from tpr_jax.data import spans

START, END = "<|startoftext|>", "<|endoftext|>"
PAD, MASK = "<|pad|>", "<|mask|>"  # of tokenizer.json; CLIP's vocabulary has neither
PEOPLE = pathlib.Path(__file__).with_name("people_bpe.json")
ROUTES = (
  "people",
  "instant",
  "clip:FOLDER_OR_HUB_ID",
  "merges:PATH",
  "json:FOLDER",
  "bert:FOLDER_OR_HUB_ID",
  "people_wordpiece",
)
CLIP_MERGES = 48_894
# Printable ASCII without an ampersand: ftfy and html.unescape leave it as it is.
_PLAIN = re.compile(r"[\n\t -%'-~]*")
_TYPED = re.compile(r"<\|(startoftext|endoftext)\|>")
# The pieces BPE works on, after CLIP: a contraction, a word, a digit, or punctuation.
PIECES = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
# The same for texts of ASCII alone, which `re` can read.
_ASCII_PIECES = re.compile(
  r"'s|'t|'re|'ve|'m|'ll|'d|[A-Za-z]+|[0-9]|[^\sA-Za-z0-9]+", re.ASCII
)
_PIECES_KEPT = 1 << 16


class TokenizerError(Exception):
  """A vocabulary cannot be used: says what was looked for and what would do."""


def clean(text: str) -> str:
  """CLIP's cleaning: ftfy, html entities twice, white space collapsed, lower case."""
  if not isinstance(text, str):
    raise TokenizerError(f"a caption must be a string, found {type(text).__name__}")
  return re.sub(r"\s+", " ", _mended(text).strip()).strip().lower()


def _mended(text: str) -> str:
  if _PLAIN.fullmatch(text):
    return text
  return html.unescape(html.unescape(ftfy.fix_text(text)))


def cut_report(counts: np.ndarray, length: int) -> str:
  """ "412 of 37,154 captions exceed 168 tokens (longest 301, mean 92.4)", from the
  counts that `encode` gives."""
  counts = np.asarray(counts)
  if not counts.size:
    return f"0 of 0 captions exceed {length} tokens"
  cut = int((counts > length).sum())
  spread = f"longest {counts.max():,}, mean {counts.mean():.1f}"
  return f"{cut:,} of {counts.size:,} captions exceed {length} tokens ({spread})"


class Tokenizer(abc.ABC):
  """Token ids of cleaned captions: start, words, end, then padding.

  Attributes:
    name: the spec it was built from.
    vocab_size: number of ids, special ones included.
    start_id, end_id, mask_id: special ids.
    pad_id: always 0. CLIP's vocabulary has a word there too ("!"): what lies after
      end_id is padding, whatever its id.
    continues: bool [vocab_size], True for tokens that continue the word of the token
      before them; None: this vocabulary does not tell (WordPiece's does).
  """

  pad_id = 0
  continues: np.ndarray | None = None

  def __init__(
    self,
    name: str,
    vocab_size: int,
    mask_id: int,
    start_id: int,
    end_id: int | None = None,
  ):
    """end_id: default, the last one."""
    self.name, self.vocab_size = name, vocab_size
    self.mask_id, self.start_id = mask_id, start_id
    self.end_id = vocab_size - 1 if end_id is None else end_id

  @property
  def end_is_last(self) -> bool:
    """Whether the end token has the highest id, so that argmax(ids) finds it."""
    return self.end_id == self.vocab_size - 1

  @abc.abstractmethod
  def words(self, texts: Sequence[str]) -> list[list[int]]:
    """Ids of cleaned texts, without start and end, of any length."""

  def offsets(self, text: str) -> list[tuple[int, int]]:
    """[start, end) in a cleaned text of every id that `words` gives it.

    Raises:
      TokenizerError: this tokenizer cannot tell.
    """
    raise TokenizerError(
      f"tokenizer {self.name!r} does not tell which characters a token stands for"
    )

  def spans(self, caption: str) -> np.ndarray:
    """int32 [n, 2]: the characters [start, end) of a caption, as it was written, that
    each of its tokens stands for; row i is id i + 1 of `encode`, before cutting.

    White space is in no span. Tokens that are bytes of one character have its span.

    Raises:
      TokenizerError: this tokenizer cannot tell.
    """
    cleaned = clean(caption)
    origin = spans.origins(caption, _mended(caption), cleaned)
    return spans.of_tokens(caption, cleaned, origin, self.offsets(cleaned))

  def encode(self, texts: Sequence[str], length: int) -> tuple[np.ndarray, np.ndarray]:
    """n captions -> (ids int32 [n, length], counts int32 [n]).

    counts holds the tokens of each caption before cutting, start and end included; a
    caption is cut where counts > length, and still has end_id as its last token.
    """
    if isinstance(texts, str):
      raise TokenizerError("encode takes a list of captions, found one string")
    if length < 3:
      raise TokenizerError(
        f"text length is {length}, needs 3 at least: start, a word, end"
      )
    rows = self.words([clean(text) for text in texts])
    ids = np.full((len(rows), length), self.pad_id, np.int32)
    counts = np.asarray([len(row) + 2 for row in rows], np.int32)
    for i, row in enumerate(rows):
      row = [self.start_id, *row[: length - 2], self.end_id]
      ids[i, : len(row)] = row
    return ids, counts

  def __reduce__(self):
    # Compiled back ends do not all pickle: a worker process builds its own.
    return build, (self.name,)


class _People(Tokenizer):
  """Byte-level BPE of ours: id 0 pad, bytes and merges, mask, start, end.

  Each piece of text starts with a space byte, so a word has the same token after a
  space, a hyphen or a bracket. Words come from merges alone, never from special ids.
  So a piece has the same ids wherever it stands, and captions repeat few hundred of
  them: each is looked up once.
  """

  def __init__(self, name: str = "people", path: pathlib.Path = PEOPLE):
    merges = [tuple(merge.split(" ")) for merge in _read_json(path)["merges"]]
    self._bpe, size = byte_level(merges)
    super().__init__(name, size + 4, mask_id=size + 1, start_id=size + 2)
    self._piece = functools.lru_cache(_PIECES_KEPT)(self._encoded)

  def words(self, texts):
    return [
      self._row(text) if text.isascii() else self._encoded(text) for text in texts
    ]

  def _row(self, text: str) -> list[int]:
    pieces = map(self._piece, _ASCII_PIECES.findall(text))
    return list(itertools.chain.from_iterable(pieces))

  def _encoded(self, text: str) -> list[int]:
    return [token + 1 for token in self._bpe.encode(text, add_special_tokens=False).ids]

  def offsets(self, text):
    return self._bpe.encode(text, add_special_tokens=False).offsets


class _Json(Tokenizer):
  """A tokenizer.json of the `tokenizers` library, with our special tokens in it."""

  def __init__(self, name: str, folder: pathlib.Path):
    from tokenizers import Tokenizer as Backend

    path = folder / "tokenizer.json"
    if not path.is_file():
      raise TokenizerError(f"no tokenizer.json in {folder}")
    try:
      self._encoder = Backend.from_file(str(path))
    except Exception as error:  # the library raises plain Exception
      raise TokenizerError(f"cannot read {path}: {error}") from error
    self._encoder.no_padding()
    self._encoder.no_truncation()
    self._encoder.encode_special_tokens = True  # typed in a caption, they are text
    ids = self._encoder.get_vocab(with_added_tokens=True)
    size = max(ids.values(), default=-1) + 1
    special = {token: ids.get(token) for token in (PAD, MASK, START, END)}
    if None in special.values() or special[END] != size - 1 or special[PAD] != 0:
      raise TokenizerError(
        f"{path} has the special tokens {special} among {size:,} ids; expected all "
        f"four, {PAD} with id 0 and {END} with the last, as exports of tpr_jax write"
      )
    super().__init__(name, size, mask_id=special[MASK], start_id=special[START])

  def words(self, texts):
    batch = self._encoder.encode_batch_fast(list(texts), add_special_tokens=False)
    return [row.ids for row in batch]

  def offsets(self, text):
    return self._encoder.encode(text, add_special_tokens=False).offsets


class _Instant(Tokenizer):
  """CLIP's vocabulary from the instant-clip-tokenizer package; needs no files."""

  def __init__(self, name: str = "instant"):
    try:
      package = importlib.import_module("instant_clip_tokenizer")
    except ImportError as error:
      raise TokenizerError(
        "tokenizer 'instant' needs the package instant-clip-tokenizer, which is not "
        "installed here (its wheels stop at Python 3.12, and on Linux at x86_64). "
        "Install it, or name CLIP's files instead: 'clip:FOLDER_OR_HUB_ID' (vocab.json "
        "and merges.txt) or 'merges:PATH' (bpe_simple_vocab_16e6.txt.gz)."
      ) from error
    self._encoder = package.Tokenizer()
    end = self._encoder.end_of_text()
    super().__init__(name, end + 1, end - 2, self._encoder.start_of_text())

  def words(self, texts):
    return [self._encoder.encode(text) for text in texts]

  def offsets(self, text):
    # The package has no offsets: what its tokens spell is laid along the text.
    found = spans.spelt(text, self.words([text])[0], self._encoder.decode)
    if found is None:
      raise TokenizerError(
        f"the tokens of 'instant' do not spell {text[:60]!r}: which characters each"
        " stands for is not known; 'clip:FOLDER' and 'merges:PATH' have the same ids"
      )
    return found


class _Clip(Tokenizer):
  """transformers' CLIPTokenizer over a folder with CLIP's vocabulary.

  The mask token takes the place of the last BPE merge (id 49,405), after IRRA.
  """

  def __init__(self, name: str, folder: pathlib.Path):
    from transformers import CLIPTokenizer  # slow to import, and not always needed

    self._encoder = CLIPTokenizer.from_pretrained(
      str(folder), local_files_only=True, split_special_tokens=True
    )
    ids = self._encoder.get_vocab()
    size = max(ids.values()) + 1
    if ids.get(END) != size - 1 or START not in ids:
      raise TokenizerError(
        f"{folder} is not CLIP's vocabulary: {END} has id {ids.get(END)} of {size:,} "
        f"ids, expected the last one, and {START} among the others. A checkpoint with "
        "added tokens cannot be read at its end token; use the original files."
      )
    super().__init__(name, size, mask_id=size - 3, start_id=ids[START])

  def words(self, texts):
    # CLIPTokenizer keeps a typed special token in one piece; apart, it is plain text.
    apart = [_TYPED.sub(r"<| \1 |>", text) for text in texts]
    if not apart:
      return []
    return self._encoder(apart, add_special_tokens=False, verbose=False)["input_ids"]

  def offsets(self, text):
    apart = _TYPED.sub(r"<| \1 |>", text)
    if not apart:
      return []
    how = dict(add_special_tokens=False, verbose=False, return_offsets_mapping=True)
    found = np.asarray(self._encoder(apart, **how)["offset_mapping"]).reshape(-1, 2)
    # The spaces put in, in the order of the text: two for each typed token.
    put = [at for match in _TYPED.finditer(text) for at in match.span(1)]
    put = np.asarray(put, int) + np.arange(len(put))
    return (found - np.searchsorted(put, found)).tolist()


def build(spec: str) -> Tokenizer:
  """The tokenizer that `spec` names (see the top of this file), or TokenizerError."""
  kind, _, place = str(spec).partition(":")
  if spec == "people":
    return _People()
  if spec == "instant":
    return _Instant()
  if kind == "clip" and place:
    return _Clip(spec, clip_folder(place))
  if spec == "people_wordpiece" or (kind == "bert" and place):
    from tpr_jax.data import wordpiece  # which needs this module

    return wordpiece.bert(spec, place) if place else wordpiece.people()
  if kind == "json" and place:
    return _Json(spec, pathlib.Path(place).expanduser())
  if kind == "merges" and place:
    with tempfile.TemporaryDirectory(prefix="tpr_jax_clip_") as folder:
      write_clip_files(place, folder)
      return _Clip(spec, pathlib.Path(folder))
  raise TokenizerError(f"unknown tokenizer {spec!r}; known: {', '.join(ROUTES)}")


def byte_level(merges: Sequence[tuple[str, str]] | None):
  """(tokenizers.Tokenizer, vocabulary size) with 256 bytes, then one id a merge.

  With merges=None the model is empty, ready to be trained.
  """
  from tokenizers import Regex, models, pre_tokenizers
  from tokenizers import Tokenizer as Backend

  vocab = sorted(pre_tokenizers.ByteLevel.alphabet())
  vocab += [left + right for left, right in merges or ()]
  ids = {token: i for i, token in enumerate(vocab)}
  if len(ids) != len(vocab):
    raise TokenizerError("a BPE file gives the same token twice; train it anew")
  bpe = Backend(models.BPE() if merges is None else models.BPE(ids, list(merges)))
  bpe.pre_tokenizer = pre_tokenizers.Sequence(
    [
      pre_tokenizers.Split(Regex(PIECES), behavior="removed", invert=True),
      pre_tokenizers.ByteLevel(add_prefix_space=True, use_regex=False),
    ]
  )
  return bpe, len(vocab)


def write_clip_files(merges_path: str, folder: str | pathlib.Path) -> None:
  """CLIP's original merges file -> vocab.json and merges.txt in `folder`.

  Ids: 256 bytes, the same 256 at a word's end, 48,894 merges in order, start, end.
  """
  path = pathlib.Path(merges_path).expanduser()
  if not path.is_file():
    raise TokenizerError(
      f"no merges file at {path}; expected CLIP's bpe_simple_vocab_16e6.txt.gz (or the "
      "same unpacked), which comes with OpenAI's CLIP and with open_clip"
    )
  try:
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt", encoding="utf-8") as file:
      lines = file.read().split("\n")[1 : 1 + CLIP_MERGES]
  except (OSError, EOFError, UnicodeDecodeError) as error:
    raise TokenizerError(f"cannot read the merges file {path}: {error}") from error
  merges = [tuple(line.split(" ")) for line in lines]
  if len(merges) < CLIP_MERGES or any(len(merge) != 2 for merge in merges):
    raise TokenizerError(
      f"{path} is not CLIP's merges file: found {len(merges):,} lines after the first, "
      f"expected {CLIP_MERGES:,} at least, each of two parts"
    )
  # The order of CLIP's byte table: printable characters first, then the stand-ins.
  letters = [*range(33, 127), *range(161, 173), *range(174, 256), *range(256, 324)]
  vocab = [chr(letter) for letter in letters]
  vocab += [letter + "</w>" for letter in vocab]
  vocab += ["".join(merge) for merge in merges] + [START, END]
  folder = pathlib.Path(folder)
  ids = {token: i for i, token in enumerate(vocab)}
  (folder / "vocab.json").write_text(json.dumps(ids), "utf-8")
  text = "\n".join(["#version: 0.2", *(" ".join(merge) for merge in merges), ""])
  (folder / "merges.txt").write_text(text, "utf-8")


def clip_folder(place: str) -> pathlib.Path:
  """The folder that holds CLIP's tokenizer files: `place`, or the hub's copy of it."""
  folder = pathlib.Path(place).expanduser()
  if folder.is_dir():
    for inner in (folder, folder / "tokenizer"):  # a CLIP folder, or a pipeline's
      if (inner / "tokenizer.json").is_file() or (
        (inner / "vocab.json").is_file() and (inner / "merges.txt").is_file()
      ):
        return inner
    found = ", ".join(sorted(p.name for p in folder.iterdir())[:12]) or "nothing"
    raise TokenizerError(
      f"no tokenizer files in {folder}: expected vocab.json and merges.txt (or "
      f"tokenizer.json), found {found}"
    )
  if not re.fullmatch(r"[\w.-]+/[\w.-]+", place) or place.startswith("."):
    raise TokenizerError(
      f"no folder {folder}, and {place!r} is not a hub id such as "
      "openai/clip-vit-base-patch16"
    )
  from huggingface_hub import hf_hub_download

  try:
    paths = [hf_hub_download(place, name) for name in ("vocab.json", "merges.txt")]
  except Exception as error:  # the hub raises many kinds; the user needs one sentence
    raise TokenizerError(
      f"no folder {folder}, and the hub gives no vocab.json and merges.txt for "
      f"{place!r} ({type(error).__name__}: {str(error).strip().splitlines()[0]}). "
      "Without a network, name a folder that holds them, or use 'merges:PATH' or "
      "'instant'."
    ) from error
  return pathlib.Path(paths[0]).parent


def _read_json(path: pathlib.Path) -> dict:
  try:
    return json.loads(path.read_text("utf-8"))
  except FileNotFoundError as error:
    raise TokenizerError(
      f"no vocabulary at {path}: the installation is incomplete, or train it with "
      "python -m tpr_jax.data.train_bpe"
    ) from error
