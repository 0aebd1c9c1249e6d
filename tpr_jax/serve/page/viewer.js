// One picture, large, with all that is known of it; arrows go to its neighbours.

import * as api from "./api.js";
import * as heat from "./heat.js";
import { $, facts, make, measures, percent } from "./words.js";

let hits = () => [];
let at = 0;
const current = () => hits()[at];

export function show(number) {
  at = number;
  heat.hide();
  const hit = hits()[at];
  const image = $("viewer-image");
  $("viewer-path").textContent = hit.path;
  $("viewer-wrong").textContent = "";
  image.alt = `Result ${hit.rank}: ${hit.path}`;
  $("viewer-frame").hidden = !hit.box;
  frame(Boolean(hit.box));
  const cosines = Object.entries(hit.cosines).map(([side, value]) => [
    `cosine, ${side === "text" ? "words" : "picture"}`, value.toFixed(3),
  ]);
  const rows = [["rank", String(hit.rank)], ["score", hit.score.toFixed(3)]];
  if (hit.probability !== null) rows.push(["match", percent(hit.probability)]);
  if (hit.second !== null) rows.push(["second look", hit.second.toFixed(3)]);
  if (cosines.length > 1) rows.push(...cosines);
  rows.push(...facts(hit), ...measures(hit));
  $("viewer-facts").replaceChildren(
    ...rows.flatMap(([name, value]) => [make("dt", { text: name }), make("dd", { text: value })]),
  );
  $("viewer-previous").disabled = at === 0;
  $("viewer-next").disabled = at === hits().length - 1;
  heat.offer(current);
  if (!$("viewer").open) $("viewer").showModal();
}

// The whole frame with its box, or what was cut out of it (or the whole picture).
function frame(whole) {
  const { key } = hits()[at];
  $("viewer-frame").setAttribute("aria-pressed", String(whole));
  $("viewer-image").src = whole ? api.frame(key) : api.view(key);
}

function step(by) {
  const next = at + by;
  if (next >= 0 && next < hits().length) show(next);
}

export function start(listed, like, query) {
  hits = listed;
  heat.start(query, () => frame(false));
  const dialog = $("viewer");
  $("viewer-image").addEventListener("error", () => {
    const small = api.thumbnail(hits()[at].key);
    if ($("viewer-image").getAttribute("src") === small) return;
    $("viewer-wrong").textContent =
      "The file has gone or has changed since it was indexed: this is its small copy.";
    $("viewer-image").src = small;
  });
  $("viewer-frame").addEventListener("click", () => {
    heat.hide();
    frame($("viewer-frame").getAttribute("aria-pressed") === "false");
  });
  $("viewer-previous").addEventListener("click", () => step(-1));
  $("viewer-next").addEventListener("click", () => step(1));
  $("viewer-close").addEventListener("click", () => dialog.close());
  const search = () => {
    dialog.close();
    like(hits()[at]);
  };
  $("viewer-like").addEventListener("click", search);
  dialog.addEventListener("keydown", (event) => {
    if (event.key === "ArrowLeft") step(-1);
    else if (event.key === "ArrowRight") step(1);
    else if (event.key === "s") search();
    else return;
    event.preventDefault();
  });
  dialog.addEventListener("click", (event) => {
    if (event.target === dialog) dialog.close();
  });
  dialog.addEventListener("close", () => {
    heat.hide();
    $("viewer-image").removeAttribute("src");
    document.querySelector(`#grid li:nth-child(${at + 1}) .shot`)?.focus();
  });
}
