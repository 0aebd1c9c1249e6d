"""Trains the small byte-level BPE of the embedded run and writes people_bpe.json.

  python -m tpr_jax.data.train_bpe [--vocab 2048] [--people 400] [--out FILE]

The corpus is texts of the grammar of rendered people (`rendered/grammar.py`) and the
ordinary words of person descriptions in people_words.txt, so that captions about
photographs are not broken into letters. The same corpus gives the same file.
"""

import argparse
import json
import pathlib
from collections.abc import Iterable, Sequence

import numpy as np

from tpr_jax.data import tokenizer

WORDS = pathlib.Path(__file__).with_name("people_words.txt")
SPECIAL = 4  # pad, mask, start, end: added by the tokenizer, never seen by BPE


def seed_words(path: pathlib.Path = WORDS) -> list[str]:
  """The words of people_words.txt, in the file's order."""
  return path.read_text("utf-8").split()


def train(
  texts: Iterable[str], vocab_size: int, *, words: Sequence[str] = (), weight: int = 10
) -> list[tuple[str, str]]:
  """Merges for `vocab_size` ids, special ids included, in the order BPE applies them.

  Args:
    texts: captions; they are cleaned here.
    vocab_size: ids in all; 256 of them are bytes and 4 are special.
    words: single words, each counted `weight` times.
    weight: how often a seed word counts.

  Raises:
    TokenizerError: if the corpus is too small to fill the vocabulary.
  """
  from tokenizers import pre_tokenizers, trainers

  if vocab_size <= 256 + SPECIAL:
    raise tokenizer.TokenizerError(
      f"vocabulary of {vocab_size} leaves no room for merges; 256 ids are bytes and "
      f"{SPECIAL} are special"
    )
  bpe, _ = tokenizer.byte_level(None)
  trainer = trainers.BpeTrainer(
    vocab_size=vocab_size - SPECIAL,
    min_frequency=2,
    show_progress=False,
    initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
  )
  corpus = [tokenizer.clean(text) for text in texts]
  corpus += [word for word in words for _ in range(weight)]
  bpe.train_from_iterator(corpus, trainer)
  merges = [tuple(merge) for merge in json.loads(bpe.to_str())["model"]["merges"]]
  if len(merges) != vocab_size - SPECIAL - 256:
    raise tokenizer.TokenizerError(
      f"the corpus gives {len(merges)} merges, {vocab_size - SPECIAL - 256} were asked "
      "for: give more texts or a smaller vocabulary"
    )
  return merges


def write(merges: Sequence[tuple[str, str]], path: pathlib.Path) -> None:
  """Writes merges as the small JSON that `tokenizer.build("people")` reads."""
  about = "Byte-level BPE for descriptions of people; made by tpr_jax.data.train_bpe"
  rows = ",\n".join(json.dumps(" ".join(merge)) for merge in merges)
  path.write_text(
    f'{{"about": {json.dumps(about)},\n"merges": [\n{rows}\n]}}\n', "utf-8"
  )


def grammar_texts(people: int, seed: int = 0) -> list[str]:
  """Texts about `people` rendered people in every granularity and style, one each."""
  from tpr_jax.data.rendered import attributes, grammar

  rng, texts, domains = np.random.default_rng(seed), [], sorted(attributes.DOMAINS)
  for number in range(people):
    person = attributes.sample_person(rng)
    view = attributes.sample_view(rng, domains[number % len(domains)])
    for granularity in grammar.GRANULARITIES:
      for style in grammar.STYLES:
        texts.append(grammar.describe(person, view, granularity, style, rng).text)
  return texts


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--vocab", type=int, default=2048, help="ids in all")
  parser.add_argument("--people", type=int, default=400, help="people to describe")
  parser.add_argument("--out", type=pathlib.Path, default=tokenizer.PEOPLE)
  args = parser.parse_args()
  texts = grammar_texts(args.people)
  write(train(texts, args.vocab, words=seed_words()), args.out)
  print(f"{args.vocab} ids from {len(texts):,} captions -> {args.out}")


if __name__ == "__main__":
  main()
