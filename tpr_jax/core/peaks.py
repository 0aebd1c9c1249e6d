"""Published peak rates of accelerators: bfloat16 products with float32 sums, dense.

TPUs: Google Cloud's pages "TPU v4", "TPU v5e", "TPU v5p" and "TPU v6e"
(cloud.google.com/tpu/docs, read in November 2026), a chip each. GPUs: NVIDIA's data
sheets of the cards, without sparsity. Nothing here was measured by this project.
"""

TPUS = {"v4": 275e12, "v5e": 197e12, "v5p": 459e12, "v6e": 918e12}
# As JAX names the devices (`device_kind`); the first that the name begins with.
_KINDS = (
  ("TPU v4", TPUS["v4"]),
  ("TPU v5 lite", TPUS["v5e"]),
  ("TPU v5e", TPUS["v5e"]),
  ("TPU v5", TPUS["v5p"]),
  ("TPU v6 lite", TPUS["v6e"]),
  ("TPU v6e", TPUS["v6e"]),
  ("NVIDIA H200", 989e12),
  ("NVIDIA H100 PCIe", 756e12),
  ("NVIDIA H100 NVL", 835e12),
  ("NVIDIA H100", 989e12),
  ("NVIDIA A100", 312e12),
  ("NVIDIA L40S", 362e12),
  ("NVIDIA L4", 121e12),
)


def bfloat16(kind: str) -> float | None:
  """FLOP/s of one device of this `device_kind`; None where nothing is known."""
  for name, rate in _KINDS:
    # "NVIDIA L4" is not the beginning of "NVIDIA L40".
    if kind == name or kind.startswith((f"{name} ", f"{name}-")):
      return rate
  return None
