"""What a language model is asked when it rewrites a caption.

The UFineBench paper (Zuo et al., CVPR 2024) had the captions of UFine3C reorganised by
two instruction-tuned models, as long or as short as they liked. These words are ours.
Any change of them needs another VERSION: answers are kept by it.
"""

from tpr_jax.data import check_text

VERSION = 1

SYSTEM = (
  "You rewrite descriptions of a person in a photograph. You have not seen the"
  " photograph: the description is all that is known. Keep every fact in it: sex, age"
  " and hair, each garment with its colour and pattern, whatever is worn or carried,"
  " and on which side. Use the same names of colours. Add nothing and guess nothing."
  " Answer in English, with the new description alone and in one paragraph: no title,"
  " no list, no quotation marks, no remark about what you did."
)

# Style -> (what is asked, words wanted as a share of the caption's; 0: not said).
STYLES = {
  "reorganised": ("Tell it in another order and with other sentences.", 1.0),
  "shorter": ("Tell it in fewer words, and lose no garment and no colour.", 0.6),
  "longer": ("Tell it in fuller sentences, without any new fact.", 1.5),
  "free": ("Tell it in a different way, as long or as short as you like.", 0.0),
}


def messages(caption: str, style: str, max_words: int = 0) -> list[dict[str, str]]:
  """The conversation that asks for one rewrite, as chat endpoints take it.

  Args:
    caption: what is rewritten.
    style: a key of STYLES.
    max_words: no longer than this; 0: no limit is told.
  """
  asked, share = STYLES[style]
  lines = [asked]
  if share:
    words = max(round(share * len(check_text.words(caption))), 5)
    lines.append(f"About {min(words, max_words or words)} words.")
  if max_words:
    lines.append(f"Never more than {max_words} words.")
  text = f"{' '.join(lines)}\n\nDescription:\n{caption}"
  return [{"role": "system", "content": SYSTEM}, {"role": "user", "content": text}]
