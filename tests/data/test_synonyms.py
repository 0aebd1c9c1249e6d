"""Synonyms: our list holds to its rules, and WordNet's files are read as they are."""

import pickle
import re
import zipfile

import pytest

from tpr_jax.data import synonyms

LICENCE = "  1 This is not Princeton's WordNet, but a few lines in its format.\n"
# synset name -> (kind, words), in the order of the files
SYNSETS = {
  "shirt": ("noun", ["shirt", "Top_shirt"]),
  "man": ("noun", ["man", "adult_male"]),
  "worker": ("noun", ["man", "Hired-Hand", "O'Man"]),
  "wear": ("verb", ["wear", "have_on"]),
  "dark": ("adj", ["dark(a)", "dusky"]),
  "darkly": ("adv", ["darkly"]),
}
IRREGULAR = {"noun": "men man\n", "verb": "wore wear\n", "adj": "\n", "adv": "\n"}


@pytest.fixture
def folder(tmp_path):
  """A dict folder with the synsets above."""
  place = tmp_path / "dict"
  place.mkdir()
  for kind in ("noun", "verb", "adj", "adv"):
    data, index = LICENCE, {}
    for synset_kind, words in SYNSETS.values():
      if synset_kind == kind:
        for word in words:
          index.setdefault(re.sub(r"\(\w\)", "", word).lower(), []).append(len(data))
        listed = " ".join(f"{word} 0" for word in words)
        data += f"{len(data):08d} 06 n {len(words):02x} {listed} 000 | a gloss\n"
    lines = [
      f"{word} n {len(at)} 0 {len(at)} 0 {' '.join(f'{i:08d}' for i in at)}  \n"
      for word, at in sorted(index.items())
    ]
    (place / f"data.{kind}").write_text(data)
    (place / f"index.{kind}").write_text(LICENCE + "".join(lines))
    (place / f"{kind}.exc").write_text(IRREGULAR[kind])
  return place


@pytest.fixture
def archive(folder, tmp_path):
  """The same as nltk's downloader leaves it."""
  path = tmp_path / "wordnet.zip"
  with zipfile.ZipFile(path, "w") as file:
    for part in folder.iterdir():
      file.write(part, f"wordnet/{part.name}")
  return path


@pytest.fixture(scope="module")
def people():
  return synonyms.build("people")


def test_our_list_has_plain_words_and_works_both_ways(people):
  groups = int(re.search(r"(\d+) groups", people.describe())[1])
  assert groups >= 150
  words = [
    word.strip()
    for line in synonyms.PEOPLE.read_text().splitlines()
    if not line.startswith("#")
    for word in line.split(",")
    if word
  ]
  for word in words:
    found = people.of(word)
    assert found and word not in found and len(set(found)) == len(found)
    assert all(word in people.of(other) for other in found)
  assert people.of("trousers")[:2] == ("pants", "slacks")
  assert people.of("unheard") == ()


def test_no_group_of_our_list_says_what_another_says():
  lines = synonyms.PEOPLE.read_text().splitlines()
  groups = [
    {word.strip() for word in line.split(",")}
    for line in lines
    if line and not line.startswith("#")
  ]
  repeated = [
    a for i, a in enumerate(groups) for j, b in enumerate(groups) if i != j and a <= b
  ]
  assert repeated == []


@pytest.mark.parametrize("line", ["shirt", "shirt, shirt", "shirt; top", "Shirt, top"])
def test_a_line_that_is_no_group(line, tmp_path):
  path = tmp_path / "synonyms.txt"
  path.write_text(f"man, male\n\n# clothes\n{line}\n")
  with pytest.raises(synonyms.SynonymsError, match=r"line 4.*two or more different"):
    synonyms._People(path)


@pytest.mark.parametrize("kind", ["folder", "archive"])
def test_wordnet(kind, request):
  place = request.getfixturevalue(kind)
  wordnet = synonyms.build(f"wordnet:{place}")
  expected = {
    "man": ("adult male", "hired hand", "oman"),
    "shirt": ("top shirt",),
    "shirts": ("shirt", "top shirt"),  # by detachment
    "men": ("man", "adult male", "hired hand", "oman"),  # irregular
    "wore": ("wear", "have on"),
    "wearing": ("wear", "have on"),
    "dark": ("dusky",),
    "darker": ("dark", "dusky"),
    "darkly": (),
    "unheard": (),
    "s": (),
  }
  assert {word: wordnet.of(word) for word in expected} == expected
  assert wordnet.describe() == f"synonyms: WordNet in {place}, 8 words"
  again = pickle.loads(pickle.dumps(wordnet))
  assert again.of("man") == expected["man"] and again.name == wordnet.name


def test_wordnet_is_found_where_it_is_usually_put(
  folder, archive, monkeypatch, tmp_path
):
  monkeypatch.setenv("WNSEARCHDIR", str(folder))
  assert synonyms.build("wordnet").name == f"wordnet:{folder}"
  monkeypatch.delenv("WNSEARCHDIR")
  (tmp_path / "data" / "corpora").mkdir(parents=True)
  archive = archive.rename(tmp_path / "data" / "corpora" / "wordnet.zip")
  monkeypatch.setenv("NLTK_DATA", f"/nowhere:{tmp_path / 'data'}")
  places = synonyms.usual_places()
  monkeypatch.setattr(
    synonyms, "usual_places", lambda: [p for p in places if tmp_path in p.parents]
  )
  assert synonyms.build("wordnet").name == f"wordnet:{archive}"
  archive.unlink()
  with pytest.raises(synonyms.SynonymsError, match=r"no WordNet at .*wordnet:PATH"):
    synonyms.build("wordnet")


def test_wordnet_s_files_must_all_be_there_and_of_one_version(folder):
  (folder / "data.verb").unlink()
  with pytest.raises(
    synonyms.SynonymsError, match=r"cannot read data.verb.*index.noun"
  ):
    synonyms.build(f"wordnet:{folder}")
  (folder / "data.verb").write_text(LICENCE + "x\n")
  wordnet = synonyms.build(f"wordnet:{folder}")
  with pytest.raises(synonyms.SynonymsError, match=r"data.verb .* no synset at"):
    wordnet.of("wear")


def test_places_and_names_that_are_none(tmp_path):
  with pytest.raises(synonyms.SynonymsError, match="no WordNet at /nowhere"):
    synonyms.build("wordnet:/nowhere")
  (tmp_path / "notes.txt").write_text("no zip")
  with pytest.raises(synonyms.SynonymsError, match="a zip of it"):
    synonyms.build(f"wordnet:{tmp_path / 'notes.txt'}")
  with pytest.raises(synonyms.SynonymsError, match=r"'thesaurus'; known: people"):
    synonyms.build("thesaurus")
