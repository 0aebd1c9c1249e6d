// Where the words fit on the picture that is shown: parts that are missed when covered.

import * as api from "./api.js";
import { $, make } from "./words.js";

let query = () => "";
let hit = () => null;
let person = () => {};
let waiting = false; // a button that was disabled would lose the focus
let asked = 0; // the latest; answers to those before are dropped

// of: the words. alone: shows what was explained, without the frame around it.
export function start(of, alone) {
  query = of;
  person = alone;
  $("viewer-image").addEventListener("load", place);
  $("viewer-explain").addEventListener("click", () => {
    if ($("viewer-explain").getAttribute("aria-pressed") === "true") hide();
    else if (!waiting) ask();
  });
  window.addEventListener("resize", place);
}

// For the picture that `of()` gives; hidden where nothing was asked in words.
export function offer(of) {
  hit = of;
  $("viewer-explain").hidden = !query();
}

export function hide() {
  asked += 1;
  $("viewer-heat").hidden = true;
  $("viewer-words").hidden = true;
  waiting = false;
  $("viewer-explain").setAttribute("aria-pressed", "false");
}

async function ask() {
  const mine = (asked += 1);
  waiting = true;
  $("viewer-wrong").textContent = "Covering one part after another…";
  try {
    const found = await api.explain(query(), hit().key);
    if (mine !== asked) return;
    person();
    draw(found);
    tell(found);
    $("viewer-wrong").textContent = "";
    $("viewer-explain").setAttribute("aria-pressed", "true");
  } catch (error) {
    if (mine === asked) $("viewer-wrong").textContent = error.message;
  } finally {
    if (mine === asked) waiting = false;
  }
}

function draw({ rows, columns, patch }) {
  const canvas = $("viewer-heat");
  [canvas.width, canvas.height] = [columns, rows];
  const pen = canvas.getContext("2d");
  const most = Math.max(...patch);
  pen.clearRect(0, 0, columns, rows);
  pen.fillStyle = "rgb(255 110 0)";
  patch.forEach((weight, i) => {
    if (weight <= 0) return; // what speaks against the words is not marked
    pen.globalAlpha = 0.7 * (weight / most);
    pen.fillRect(i % columns, Math.floor(i / columns), 1, 1);
  });
  canvas.hidden = false;
  place();
}

// Over the picture as it is drawn: as large as fits, in the middle.
function place() {
  const image = $("viewer-image");
  if ($("viewer-heat").hidden || !image.naturalWidth) return;
  const share = Math.min(image.clientWidth / image.naturalWidth, image.clientHeight / image.naturalHeight);
  $("viewer-heat").style.width = `${share * image.naturalWidth}px`;
  $("viewer-heat").style.height = `${share * image.naturalHeight}px`;
}

function tell({ words, cosine }) {
  const most = Math.max(...words.map((each) => each.weight));
  const marked = words.map(({ word, weight }) =>
    make("span", {
      text: word,
      title: weight.toFixed(3),
      class: weight > 0 ? (weight > most / 2 ? "up most" : "up") : "",
    }),
  );
  const help = `Marked: where, and without which words, their cosine of ${cosine.toFixed(3)} is lower. It says what the model looks at, not that it is right.`;
  const spaced = marked.flatMap((each) => [each, " "]); // or they would be read as one
  $("viewer-words").replaceChildren(...spaced, make("p", { class: "help", text: help }));
  $("viewer-words").hidden = false;
}
