"""Text-based person retrieval in JAX; the package itself offers `load` alone."""


def load(place, **options):
  """Trained towers, ready to encode pictures and texts: `tpr_jax.loading.load`.

  Args:
    place: a run's folder, a folder of `--mode=export`, or a published CLIP (folder,
      file or Hugging Face hub id).
    options: image_size, text_length, batch, dtype, tokenizer, activation, filter,
      threads, base, second_stage.

  Returns:
    `tpr_jax.pretrained.Pretrained`: encode_images(list), encode_texts(list); with
    second_stage `tpr_jax.paired.Paired`, which scores pairs too.
  """
  from tpr_jax import loading  # JAX takes seconds; importing the package does not

  return loading.load(place, **options)
