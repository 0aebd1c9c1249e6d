"""Trains the small WordPiece of the embedded run and writes people_wordpiece.txt.

  python -m tpr_jax.data.train_wordpiece [--vocab 1500] [--people 400] [--out FILE]

The corpus is that of train_bpe.py. The same corpus gives the same file, which has the
format of BERT's vocab.txt: one token a line, in the order of the ids.
"""

import argparse
import pathlib
from collections.abc import Iterable, Sequence

from tpr_jax.data import tokenizer, train_bpe, wordpiece

LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789"
SIGNS = "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~–—‘’“”…"


def alphabet() -> list[str]:
  """Single characters: a word of other ones is [UNK]. Signs are words by themselves."""
  return [*LETTERS, *SIGNS, *(wordpiece.CONTINUES + letter for letter in LETTERS)]


def train(
  texts: Iterable[str], vocab_size: int, *, words: Sequence[str] = (), weight: int = 10
) -> list[str]:
  """A vocabulary of `vocab_size` tokens: special ones, characters, then pieces.

  Args:
    texts: captions; they are cleaned here.
    words: single words, each counted `weight` times.

  Raises:
    TokenizerError: a vocabulary that has no room for pieces, or a corpus that is too
      small to fill it.
  """
  from tokenizers import trainers

  first = [*wordpiece.SPECIAL, *alphabet()]
  if vocab_size <= len(first):
    raise tokenizer.TokenizerError(
      f"a vocabulary of {vocab_size} leaves no room for pieces of words;"
      f" {len(first)} tokens are special or single characters"
    )
  made = wordpiece.encoder(None)
  # The characters are given as special tokens, for the trainer to number them in this
  # order: it numbers those that it finds itself in no order that stays, and decides
  # ties by these numbers.
  trainer = trainers.WordPieceTrainer(
    vocab_size=vocab_size,
    min_frequency=2,
    show_progress=False,
    special_tokens=first,
    limit_alphabet=0,
  )
  corpus = [tokenizer.clean(text) for text in texts]
  corpus += [word for word in words for _ in range(weight)]
  made.train_from_iterator(corpus, trainer)
  ids = made.get_vocab(with_added_tokens=False)
  if len(ids) != vocab_size:
    raise tokenizer.TokenizerError(
      f"the corpus gives {len(ids)} tokens, {vocab_size} were asked for: give more"
      " texts or a smaller vocabulary"
    )
  return sorted(ids, key=ids.get)


def write(vocabulary: Sequence[str], path: pathlib.Path) -> None:
  """Writes a file that `wordpiece.people` and transformers' BertTokenizer read."""
  path.write_text("".join(f"{token}\n" for token in vocabulary), "utf-8")


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--vocab", type=int, default=1500, help="tokens in all")
  parser.add_argument("--people", type=int, default=400, help="people to describe")
  parser.add_argument("--out", type=pathlib.Path, default=wordpiece.PEOPLE)
  args = parser.parse_args()
  texts = train_bpe.grammar_texts(args.people)
  write(train(texts, args.vocab, words=train_bpe.seed_words()), args.out)
  print(f"{args.vocab} tokens from {len(texts):,} captions -> {args.out}")


if __name__ == "__main__":
  main()
