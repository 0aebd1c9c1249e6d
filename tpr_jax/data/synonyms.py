"""Synonyms of English words: our own list for people and clothes, or WordNet.

  build("people")         synonyms.txt, which is of this project
  build("wordnet")        Princeton WordNet, where it is usually put
  build("wordnet:PATH")   WordNet from its `dict` folder (index.noun, data.noun, ...) or
                          from the zip of it that nltk's downloader leaves
A run says which of them it uses (`describe`), for the captions that it shows differ.
WordNet, as in MRA, gives the words of every sense: "black" becomes a surname or a slur.
Every synonym is lower case letters and single spaces.
"""

import abc
import mmap
import os
import pathlib
import re
import zipfile

PEOPLE = pathlib.Path(__file__).with_name("synonyms.txt")
ROUTES = ("people", "wordnet", "wordnet:PATH")
_KINDS = ("noun", "verb", "adj", "adv")
# WordNet's rules of detachment (its manual page morphy(7)): the base form of a word.
_ENDINGS = {
  "noun": "s: ses:s ves:f xes:x zes:z ches:ch shes:sh men:man ies:y",
  "verb": "s: ies:y es:e es: ed:e ed: ing:e ing:",
  "adj": "er: est: er:e est:e",
  "adv": "",
}


class SynonymsError(Exception):
  """There is no such list, or it cannot be read: says what would do."""


class Synonyms(abc.ABC):
  """Words that may stand for a word.

  Attributes:
    name: the spec it is built from; of "wordnet" with the place that was found.
  """

  name: str

  @abc.abstractmethod
  def of(self, word: str) -> tuple[str, ...]:
    """Synonyms of a lower-case word, without itself, in an order that never changes."""

  @abc.abstractmethod
  def describe(self) -> str:
    """One line for the log: which list this is, and its size."""

  def __reduce__(self):
    return build, (self.name,)  # a worker process reads the files itself


class _People(Synonyms):
  """Groups of a text file, a line each: its words are synonyms of one another."""

  name = "people"

  def __init__(self, path: pathlib.Path = PEOPLE):
    self._of: dict[str, dict[str, None]] = {}
    self._groups = 0
    for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
      if not line.strip() or line.startswith("#"):
        continue
      group = [word.strip() for word in line.split(",")]
      plain = all(re.fullmatch(r"[a-z]+( [a-z]+)*", word) for word in group)
      if not plain or len(set(group)) != len(group) or len(group) < 2:
        raise SynonymsError(
          f"{path}, line {number}: {line!r}; expected two or more different words of"
          " lower case letters, with commas between them"
        )
      self._groups += 1
      for word in group:
        others = dict.fromkeys(other for other in group if other != word)
        self._of.setdefault(word, {}).update(others)

  def of(self, word):
    return tuple(self._of.get(word, ()))

  def describe(self):
    words = sum(" " not in word for word in self._of)
    return f"synonyms: our list for people, {self._groups} groups, {words} words"


class _WordNet(Synonyms):
  """The lemmas of all synsets of a word, nouns first, in WordNet's order of senses."""

  def __init__(self, place: pathlib.Path):
    self.name, self._place = f"wordnet:{place}", place
    read = _reader(place)
    self._index = {kind: _index(read(f"index.{kind}")) for kind in _KINDS}
    self._data = {kind: read(f"data.{kind}") for kind in _KINDS}
    self._irregular = {kind: _exceptions(read(f"{kind}.exc")) for kind in _KINDS}
    self._known: dict[str, tuple[str, ...]] = {}

  def of(self, word):
    if word not in self._known:
      self._known[word] = self._look_up(word)
    return self._known[word]

  def describe(self):
    words = len(set().union(*self._index.values()))
    return f"synonyms: WordNet in {self._place}, {words:,} words"

  def _look_up(self, word: str) -> tuple[str, ...]:
    found = {}
    for kind in _KINDS:
      for form in self._forms(word, kind):
        for offset in self._index[kind][form]:
          found.update(dict.fromkeys(self._lemmas(kind, offset)))
    return tuple(lemma for lemma in found if lemma and lemma != word)

  def _forms(self, word: str, kind: str) -> list[str]:
    """The word and its base forms, those that WordNet has."""
    there = lambda forms: [
      form for form in dict.fromkeys(forms) if form in self._index[kind]
    ]
    irregular = self._irregular[kind].get(word)
    if irregular:
      return there([word, *irregular])
    rules = [rule.split(":") for rule in _ENDINGS[kind].split()]
    stripped = [word[: -len(a)] + b for a, b in rules if word.endswith(a)]
    return there([word, *stripped])

  def _lemmas(self, kind: str, offset: int) -> list[str]:
    data = self._data[kind]
    end = data.find(b"\n", offset)
    fields = bytes(data[offset:end]).split()
    if len(fields) < 4 or not fields[0].isdigit() or int(fields[0]) != offset:
      raise SynonymsError(
        f"data.{kind} of WordNet in {self._place} has no synset at {offset:,}, where"
        f" index.{kind} has one: the two are not of one version, or are damaged"
      )
    count = int(fields[3], 16)
    return [_plain(word.decode()) for word in fields[4 : 4 + 2 * count : 2]]


def build(spec: str) -> Synonyms:
  """The synonyms that `spec` names (see the top of this file).

  Raises:
    SynonymsError: an unknown name, or no such files.
  """
  kind, _, place = str(spec).partition(":")
  if spec == "people":
    return _People()
  if kind == "wordnet":
    return _WordNet(pathlib.Path(place).expanduser() if place else _found())
  raise SynonymsError(f"unknown synonyms {spec!r}; known: {', '.join(ROUTES)}")


def usual_places() -> list[pathlib.Path]:
  """Where "wordnet" looks: what WordNet's and nltk's variables name, then the places
  of Debian's package and of nltk's downloader."""
  given = [os.environ.get("WNSEARCHDIR"), os.environ.get("WNHOME")]
  places = [pathlib.Path(given[0])] if given[0] else []
  places += [pathlib.Path(given[1], "dict")] if given[1] else []
  places.append(pathlib.Path("/usr/share/wordnet"))
  nltk = os.environ.get("NLTK_DATA", "").split(os.pathsep)
  nltk += [str(pathlib.Path.home() / "nltk_data"), "/usr/share/nltk_data"]
  for folder in filter(None, nltk):
    corpora = pathlib.Path(folder, "corpora")
    places += [corpora / "wordnet", corpora / "wordnet.zip"]
  return places


def _found() -> pathlib.Path:
  for place in usual_places():
    if place.is_file() or (place / "index.noun").is_file():
      return place
  raise SynonymsError(
    "no WordNet at " + ", ".join(map(str, usual_places())) + "; name its folder or zip"
    " with 'wordnet:PATH', install it (Debian: wordnet-base; nltk: python -m"
    " nltk.downloader wordnet), or use 'people', which needs no files"
  )


def _reader(place: pathlib.Path):
  """name of a file of WordNet -> its bytes; those of a folder are not copied."""
  if place.is_dir():

    def read(name):
      try:
        with open(place / name, "rb") as file:
          return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
      except (OSError, ValueError) as error:  # ValueError: an empty file
        raise _missing(place, name, error) from error

    return read
  try:
    archive = zipfile.ZipFile(place)
  except (OSError, zipfile.BadZipFile) as error:
    raise SynonymsError(
      f"no WordNet at {place} ({error}); expected its dict folder or a zip of it"
    ) from error
  members = {pathlib.PurePosixPath(name).name: name for name in archive.namelist()}

  def read_member(name):
    try:
      return archive.read(members[name])
    except (KeyError, OSError, zipfile.BadZipFile) as error:
      raise _missing(place, name, error) from error

  return read_member


def _missing(place: pathlib.Path, name: str, error: Exception) -> SynonymsError:
  needed = ", ".join(f"index.{kind}, data.{kind}, {kind}.exc" for kind in _KINDS)
  return SynonymsError(
    f"cannot read {name} of WordNet in {place} ({type(error).__name__}: {error});"
    f" expected there: {needed}"
  )


def _index(content) -> dict[str, list[int]]:
  """Lines "lemma pos synsets p pointers... senses tagged offsets..." -> lemma: offsets;
  entries of several words are never looked up."""
  found = {}
  for line in bytes(content).decode().splitlines():
    if line.startswith(" ") or not line:  # the licence
      continue
    fields = line.split()
    if "_" not in fields[0]:
      found[fields[0]] = [int(offset) for offset in fields[-int(fields[2]) :]]
  return found


def _exceptions(content) -> dict[str, list[str]]:
  """Lines "irregular base..." -> irregular: bases."""
  lines = (line.split() for line in bytes(content).decode().splitlines())
  return {fields[0]: fields[1:] for fields in lines if fields}


def _plain(lemma: str) -> str:
  """ "Off-White(a)" -> "off white"."""
  words = re.sub(r"\(\w+\)$", "", lemma).lower().replace("-", " ").replace("_", " ")
  return " ".join(re.sub(r"[^a-z ]", "", words).split())
