// The filter: a condition as text, and a row of choices that writes one.

import { $, make } from "./words.js";

const SIGNS = {
  text: ["=", "!=", "like", "is null", "is not null"],
  "whole number": ["=", "!=", "<", "<=", ">", ">=", "is null", "is not null"],
  number: ["<", "<=", ">", ">=", "=", "!=", "is null", "is not null"],
  time: [">=", "<", ">", "<=", "is null", "is not null"],
  "yes or no": ["= true", "= false", "is null"],
};
const HINTS = { text: "gate", "whole number": "4000", number: "0.5", time: "2026-01-31 13:45" };
const alone = (sign) => !["=", "!=", "<", "<=", ">", ">=", "like"].includes(sign);
let kinds = {};

export function open(show) {
  // What is hidden cannot have the focus: it stays near.
  if (!show && $("filters").contains(document.activeElement)) $("filter").focus();
  $("filters").hidden = !show;
  $("filter").setAttribute("aria-expanded", String(show));
}

export function mark() {
  $("filter-on").hidden = !$("where").value.trim();
}

export function columns(found) {
  kinds = found;
  const own = Object.keys(found).filter((name) => !["hash", "file_time"].includes(name));
  $("column").replaceChildren(...own.map((name) => make("option", { value: name, text: name })));
  // A text column of the table says more than the path, which comes first.
  const text = own.find((name) => name !== "path" && found[name] === "text");
  $("where-example").textContent = text
    ? `${named(text)} = 'gate' and time > '2026-01-31'`
    : "size > 4000 and time > '2026-01-31'";
  if (text) $("column").value = text;
  column();
}

function column() {
  const kind = kinds[$("column").value] ?? "text";
  $("sign").replaceChildren(...SIGNS[kind].map((sign) => make("option", { value: sign, text: sign })));
  $("value").placeholder = HINTS[kind] ?? "";
  sign();
}

function sign() {
  $("value-label").hidden = alone($("sign").value);
}

const named = (name) => (/^[A-Za-z_]\w*$/.test(name) ? name : `\`${name}\``);

function add() {
  const name = $("column").value;
  const kind = kinds[name];
  const said = $("value").value.trim();
  const quoted = ["text", "time"].includes(kind) ? `'${said.replaceAll("'", "''")}'` : said;
  if (!alone($("sign").value) && !said) {
    $("value").focus();
    return;
  }
  const one = `${named(name)} ${$("sign").value}${alone($("sign").value) ? "" : ` ${quoted}`}`;
  const before = $("where").value.trim();
  $("where").value = before ? `${before} and ${one}` : one;
  $("value").value = "";
  mark();
  $("where").focus();
}

export function start(search) {
  $("filter").addEventListener("click", () => {
    open($("filters").hidden);
    if (!$("filters").hidden) $("column").focus();
  });
  $("column").addEventListener("change", column);
  $("sign").addEventListener("change", sign);
  $("add").addEventListener("click", add);
  $("value").addEventListener("keydown", (event) => {
    if (event.key === "Enter") {
      event.preventDefault();
      add();
    }
  });
  $("where").addEventListener("input", mark);
  $("where").addEventListener("keydown", (event) => {
    if (event.key === "Enter" && !event.shiftKey) {
      event.preventDefault();
      search();
    }
  });
  for (const id of ["clear", "none-clear"]) {
    $(id).addEventListener("click", () => {
      $("where").value = "";
      mark();
      search();
      $("query").focus();
    });
  }
}
