"""Do scores of words find wrong ones? Of a run on rendered people, against occlusion.

  python -m tests.benchmarks.word_noise --run=RUN [--captions=128] [--noise=0.3]
    [--seed=0]

Takes captions of the run's training people with wrong words (its own, or with --noise
and --seed others), scores every token with the parameters of the newest checkpoint, and
prints the area under the ROC of "low score = wrong word" (0.5: chance): of all words,
of the attribute phrases alone, which are what noise can reach, and of these in coarse
and in fine captions. "occlusion" is what a score by gradients stands for, measured: the
cosine with the image, less the cosine once the token is masked. Where that cannot tell
wrong words, the towers do not know them, and no mask by scores can.
"""

import argparse
import pathlib

import jax
import numpy as np

from tpr_jax import checkpoints as ckpt
from tpr_jax import config as configs
from tpr_jax import dual_masking, program, word_scores
from tpr_jax.core import sharding, storage
from tpr_jax.data import transforms, word_truth
from tpr_jax.data.rendered import sets
from tpr_jax.encoding import Encoder
from tpr_jax.experiment import Experiment
from tpr_jax.metrics import roc

SCORES = {
  "gass": {},
  "gass, rows of the text": dict(score_rows="text"),
  "gass, of the state": dict(grad_target="state"),
  "grad_eclip": dict(score="grad_eclip"),
  "cosine": dict(score="cosine"),
  "random": dict(score="random"),
}


class Model:
  """The newest checkpoint of a run."""

  def __init__(self, folder: pathlib.Path, **options):
    config = configs.load(folder / "config.json").copy_and_resolve_references()
    with config.unlocked():
      config.data.options.update(options)
    self.config, self.made = config, Experiment(config.lock(), folder)
    self.people, _ = self.made.training_data()
    saved = ckpt.Checkpoints(storage.checkpoints(folder), read_only=True)
    self.step = saved.latest()
    self.model = self.made.model(len(self.people.identities))
    shapes = jax.eval_shape(self.made.init_fn(self.model), jax.random.key(0))
    placed = sharding.state_shardings(shapes, self.made.mesh, config.shardings)
    self.params = saved.restore_params(self.step, ckpt.abstract(shapes, placed))

  def scores(self, captions, changes) -> np.ndarray:
    """float32 [n, L] of one kind."""
    dual = {**self.config.objective.dual.to_dict(), "score": "gass", **changes}
    dual["score_layers"] = min(dual["score_layers"], self.config.model.text_layers)
    rules = program.masking(self.made.tokenizer, self.config.text)
    masks = dual_masking.DualMasking(self.model, dual, rules)

    @jax.jit
    def run(params, image, text):
      seen = self.model.apply({"params": params}, image, method="encode_image")
      keys = jax.random.split(jax.random.key(0), len(text))
      return masks.scores(params, seen, text, keys)

    return np.asarray(run(self.params, captions.image, captions.text))

  def occlusion(self, captions) -> np.ndarray:
    """float32 [n, L]: what masking each token takes from the cosine."""
    towers, batch = Encoder(self.model, self.made.mesh), self.config.eval.batch
    image = towers.images(self.params, captions.image, batch)
    whole = towers.texts(self.params, captions.text, batch)
    row, place = np.nonzero(captions.word)
    without = captions.text[row]
    without[np.arange(len(row)), place] = self.made.tokenizer.mask_id
    without = towers.texts(self.params, without, batch)
    found = np.zeros(captions.word.shape, np.float32)
    found[row, place] = ((whole[row] - without) * image[row]).sum(axis=1)
    return found


def phrases(dataset, options, captions, tokenizer) -> np.ndarray:
  """bool [n, L]: tokens of attribute phrases, told right or wrong."""
  people, length = dataset.load_image.__self__, captions.text.shape[1]
  fields = {k: options[k] for k in ("style", "word_noise", "pair_noise")}
  texts = sets.Texts(granularity=tuple(options["granularity"]), **fields)
  found = []
  for at, number in zip(captions.record, captions.number, strict=True):
    record = dataset.records[at]
    index, view = people.place(record.image)
    told, _, _ = texts.captions(people, index, view, people.view(index, view))
    spans = [span for _, span in told[number].mentions]
    found.append(word_truth.tokens_in(tokenizer, record, int(number), length, spans))
  return np.stack(found)


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
  parser.add_argument("--run", type=pathlib.Path, required=True)
  parser.add_argument("--captions", type=int, default=128)
  parser.add_argument("--noise", type=float)
  parser.add_argument("--seed", type=int)
  asked = parser.parse_args()
  options = dict(word_noise=asked.noise, seed=asked.seed)
  of = Model(asked.run, **{k: v for k, v in options.items() if v is not None})
  data, tokenizer = of.config.data, of.made.tokenizer
  captions = word_scores.choose(
    of.people,
    asked.captions,
    tokenizer=tokenizer,
    pipe=transforms.build(data.eval_image),
    length=of.config.text.length,
  )
  phrase = phrases(of.people, data.options.to_dict(), captions, tokenizer)
  kinds = np.array(
    [
      of.people.records[r].truth["caption_truth"][n]["granularity"]
      for r, n in zip(captions.record, captions.number, strict=True)
    ]
  )
  print(
    f"step {of.step}: {len(kinds)} captions, {captions.word.sum():,} tokens,"
    f" {phrase.sum():,} of attribute phrases, {captions.wrong.sum():,} wrong"
  )
  groups = {"all": captions.word, "phrases": phrase}
  groups |= {k: phrase & (kinds == k)[:, None] for k in sorted(set(kinds))}
  print(f"{'':24}" + "".join(f"{name:>9}" for name in groups))
  found = {"occlusion": of.occlusion(captions)}
  found |= {kind: of.scores(captions, changes) for kind, changes in SCORES.items()}
  for kind, scores in found.items():
    areas = [roc.auc(scores[m], captions.wrong[m]) for m in groups.values()]
    print(f"{kind:24}" + "".join(f"{area:9.3f}" for area in areas), flush=True)


if __name__ == "__main__":
  main()
