"""The table of a sweep: for a terminal, and in Markdown."""

from collections.abc import Mapping
from typing import Any

from tpr_jax.core import text
from tpr_jax.core.times import duration
from tpr_jax.sweep.results import Summary


def number(found: Mapping[str, Any], signed: bool = False) -> str:
  """{"mean": 56.03, "std": 2.1} -> "56.0 ± 2.1"; the value alone where n = 1."""
  if found["mean"] is None:
    return "–"
  mean = round(found["mean"], 1) + 0.0  # no "-0.0"
  text = f"{mean:+.1f}" if signed else f"{mean:.1f}"
  return text if found["std"] is None else f"{text} ± {found['std']:.1f}"


def _paired(row: Mapping[str, Any]) -> str:
  found = row["paired"]
  if found is None:
    return "baseline"
  text = number(found, signed=True)
  short = 0 < found["n"] < row["n"]  # seeds that the baseline doesn't have
  return f"{text} (n = {found['n']})" if short else text


def _cells(summary: Summary) -> list[list[str]]:
  """Head and rows."""
  compared = summary["baseline"]
  first = summary["scores"][0].replace("/", " ")
  head = ["", *(name.replace("/", " ") for name in summary["scores"])]
  head += [f"{first} vs {compared}"] if compared else []
  lines = [[*head, "n", "training"]]
  for row in summary["rows"]:
    line = [row["row"], *(number(row["scores"][name]) for name in summary["scores"])]
    line += [_paired(row)] if compared else []
    whole = row["n"] == row["seeds"]
    time = row["seconds_train"]["mean"]
    line += [str(row["n"]) if whole else f"{row['n']} of {row['seeds']} seeds"]
    lines.append([*line, "–" if time is None else duration(time)])
  return lines


def terminal(summary: Summary) -> str:
  """Aligned columns and remarks, without a final line break."""
  return "\n".join(text.aligned(_cells(summary)) + remarks(summary))


def markdown(summary: Summary) -> str:
  """A Markdown table, what has to be said beside it, and the command."""
  lines = [[part.replace("|", "\\|") for part in line] for line in _cells(summary)]
  rule = ["---"] + ["--:"] * (len(lines[0]) - 1)
  table = "\n".join(f"| {' | '.join(line)} |" for line in [lines[0], rule, *lines[1:]])
  notes = "\n".join(f"- {remark}" for remark in remarks(summary))
  return f"{table}\n\n{notes}\n\n```bash\n{summary['command']}\n```\n"


def remarks(summary: Summary) -> list[str]:
  """What has to be said beside the numbers, one sentence each."""
  seeds = ", ".join(map(str, summary["config"]["seeds"]))
  most = max(row["n"] for row in summary["rows"])
  found = []
  if most > 1:
    found = [f"Mean ± sample standard deviation (n - 1) over seeds {seeds}."]
  elif most:
    found = [f"One number each, no deviation (seeds asked for: {seeds})."]
  if summary["baseline"]:
    found.append(f"Differences to {summary['baseline']} are of the same seed.")
  waiting = sum(run["state"] == "waiting" for run in summary["runs"])
  if waiting:
    found.append(f"{waiting} of {len(summary['runs'])} runs are not finished.")
  for run in summary["runs"]:
    if run["problem"]:
      what = "" if run["state"] == "finished" else "failed: "
      found.append(f"{run['row']}, seed {run['seed']}: {what}{run['problem']}")
  for library, versions in summary["versions"].items():
    if len(versions) > 1:
      found.append(f"The runs differ in {library}: {', '.join(versions)}.")
  devices = {tuple(run["devices"]) for run in summary["runs"] if run["devices"]}
  if len(devices) > 1:
    found.append(
      f"The runs differ in devices: {'; '.join(', '.join(d) for d in sorted(devices))}."
    )
  return found
