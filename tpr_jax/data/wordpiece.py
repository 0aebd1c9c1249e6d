"""BERT's WordPiece, uncased: Devlin et al., arXiv:1810.04805.

A word is cut into the longest pieces of the vocabulary, from its start; pieces that
continue a word begin with "##", and a word that cannot be cut is [UNK]. The vocabulary
comes from BERT's own files (vocab.txt, or the tokenizer.json of transformers), or is a
small one of ours for descriptions of people (people_wordpiece.txt, which
train_wordpiece.py makes). The ids are those of transformers' BertTokenizer, but for two
things: captions are cleaned first, as for every tokenizer here (tokenizer.clean), and
"[SEP]" typed in a caption is text.
"""

import json
import pathlib
import re
from collections.abc import Sequence

import numpy as np

from tpr_jax.data.tokenizer import Tokenizer, TokenizerError

PAD, UNKNOWN, START, END, MASK = SPECIAL = (
  "[PAD]",
  "[UNK]",
  "[CLS]",
  "[SEP]",
  "[MASK]",
)
CONTINUES = "##"
PEOPLE = pathlib.Path(__file__).with_name("people_wordpiece.txt")
_FILES = ("vocab.txt", "tokenizer.json")


class WordPiece(Tokenizer):
  """Token ids of cleaned captions: [CLS], words, [SEP], then padding with id 0.

  Attributes:
    unknown_id: of [UNK].
    vocabulary: all tokens, in the order of their ids.
  """

  def __init__(self, name: str, vocabulary: Sequence[str], place: object):
    ids = {token: i for i, token in enumerate(vocabulary)}
    missing = [token for token in SPECIAL if token not in ids]
    twice = len(vocabulary) - len(ids)
    if missing or twice or ids[PAD] != 0:
      raise TokenizerError(
        f"{place} is no vocabulary of BERT: of {len(vocabulary):,} tokens {twice} are"
        f" there twice, missing are {', '.join(missing) or 'none'}, {PAD} has id"
        f" {ids.get(PAD)}; expected each token once, {', '.join(SPECIAL)} among them,"
        f" and {PAD} first"
      )
    super().__init__(
      name, len(ids), mask_id=ids[MASK], start_id=ids[START], end_id=ids[END]
    )
    self.unknown_id, self.vocabulary = ids[UNKNOWN], tuple(vocabulary)
    self.continues = np.array([token.startswith(CONTINUES) for token in vocabulary])
    self._encoder = encoder(ids)

  def words(self, texts):
    batch = self._encoder.encode_batch_fast(list(texts), add_special_tokens=False)
    return [row.ids for row in batch]

  def offsets(self, text):
    return self._encoder.encode(text, add_special_tokens=False).offsets


def people(name: str = "people_wordpiece", path: pathlib.Path = PEOPLE) -> WordPiece:
  """The built-in vocabulary, for small models."""
  if not path.is_file():
    raise TokenizerError(
      f"no vocabulary at {path}: the installation is incomplete, or train it with"
      " python -m tpr_jax.data.train_wordpiece"
    )
  return WordPiece(name, _lines(path), path)


def bert(name: str, place: str) -> WordPiece:
  """BERT's tokenizer from a folder, a file vocab.txt, or a hub id.

  Raises:
    TokenizerError: nothing there, a vocabulary of another kind, or a cased one.
  """
  path = pathlib.Path(place).expanduser()
  if path.is_file():
    return WordPiece(name, _vocabulary(path), path)
  if path.is_dir():
    file = next((path / x for x in _FILES if (path / x).is_file()), None)
    if file is None:
      found = ", ".join(sorted(p.name for p in path.iterdir())[:12]) or "nothing"
      raise TokenizerError(
        f"no tokenizer files in {path}: expected {' or '.join(_FILES)}, found {found}"
      )
    return WordPiece(name, _vocabulary(file), file)
  return WordPiece(name, _vocabulary(_from_hub(place)), place)


def encoder(ids: dict[str, int] | None):
  """The `tokenizers.Tokenizer` of a vocabulary; None: empty, ready to be trained.

  It has no special tokens, so that nothing that is typed in a caption becomes one.
  """
  from tokenizers import Tokenizer as Backend
  from tokenizers import models, normalizers, pre_tokenizers

  kind = models.WordPiece
  model = kind(unk_token=UNKNOWN) if ids is None else kind(ids, unk_token=UNKNOWN)
  made = Backend(model)
  made.normalizer = normalizers.BertNormalizer(lowercase=True)
  made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
  return made


def _vocabulary(path: pathlib.Path) -> list[str]:
  """Tokens in the order of their ids; refuses a cased model's."""
  settings = path.with_name("tokenizer_config.json")
  known = _json(settings) if settings.is_file() else {}
  lower = known.get("do_lower_case", True)
  if path.suffix == ".json":
    whole = _json(path)
    model, normalizer = whole.get("model") or {}, whole.get("normalizer") or {}
    if model.get("type") != "WordPiece" or not isinstance(model.get("vocab"), dict):
      raise TokenizerError(
        f"{path} is a tokenizer of the kind {model.get('type')!r}; expected WordPiece,"
        " as BERT has it"
      )
    ids = model["vocab"]
    tokens = sorted(ids, key=ids.get)
    if [ids[token] for token in tokens] != list(range(len(tokens))):
      raise TokenizerError(f"{path}: the ids of {len(tokens):,} tokens have gaps")
    lower = normalizer.get("lowercase", lower)
  else:
    tokens = _lines(path)
  if not lower:
    raise TokenizerError(
      f"{path} is of a cased BERT (do_lower_case is false); captions are in lower case"
      " here: use an uncased one, such as google-bert/bert-base-uncased"
    )
  return tokens


def _lines(path: pathlib.Path) -> list[str]:
  try:
    text = path.read_text("utf-8")
  except (OSError, UnicodeDecodeError) as error:
    raise TokenizerError(f"cannot read the vocabulary {path}: {error}") from error
  # Not splitlines: tokens may be characters that it takes for ends of lines.
  return text.removesuffix("\n").replace("\r\n", "\n").split("\n")


def _json(path: pathlib.Path) -> dict:
  try:
    found = json.loads(path.read_text("utf-8"))
  except (OSError, ValueError) as error:
    raise TokenizerError(f"cannot read {path}: {error}") from error
  if not isinstance(found, dict):
    raise TokenizerError(f"{path} holds a {type(found).__name__}; expected an object")
  return found


def _from_hub(place: str) -> pathlib.Path:
  if not re.fullmatch(r"[\w-][\w.-]*(/[\w.-]+)?", place):
    raise TokenizerError(
      f"no folder or file {place}, and it is no hub id such as"
      " google-bert/bert-base-uncased"
    )
  from huggingface_hub import hf_hub_download

  try:
    path = pathlib.Path(hf_hub_download(place, "vocab.txt"))
    hf_hub_download(place, "tokenizer_config.json")  # says whether it is cased
    return path
  except Exception as error:  # the hub raises many kinds; the user needs one sentence
    raise TokenizerError(
      f"no folder {place}, and the hub gives no vocab.txt and tokenizer_config.json for"
      f" it ({type(error).__name__}: {str(error).strip().splitlines()[0]}). Without a"
      " network, name a folder that holds BERT's vocab.txt: bert:FOLDER"
    ) from error
