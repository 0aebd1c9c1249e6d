// The page: what is asked, what was found, and how the two follow each other.
//
// What was asked stands in the history of this tab, not in the address: addresses are
// kept, sent and logged by others.

import * as api from "./api.js";
import * as filter from "./filter.js";
import * as viewer from "./viewer.js";
import { $, count, facts, make, percent } from "./words.js";

const PAGE = 48;
const TWICE = 100; // results that are looked at again
const EXAMPLES = [
  "a woman in a red coat",
  "a man with a black backpack and a white cap",
  "a person in blue jeans carrying an umbrella",
];
const VERDICT = {
  null: "These are the nearest pictures, whether or not any of them fits.",
  true: "Somebody here may match. The percentages say how likely each picture is the person.",
  false: "Nobody here seems to match: these are only the nearest pictures.",
};
let by = null; // the picture asked by: {like | upload, name, image}
let asked = null; // the request of the results that are shown
let hits = [];
let version = null;
let running = null;
let limits = null;
let twice = false; // whether the index can look twice

// --- what is asked

function request() {
  const found = { query: $("query").value.trim(), where: $("where").value.trim(), top: PAGE };
  if (by?.like) found.like = by.like;
  if (by?.upload) found.upload = by.upload;
  if (by && found.query) found.image_weight = Number($("weight").value);
  if (twice && !by && $("twice-on").checked) found.rerank = TWICE;
  return found;
}

function setBy(picture) {
  if (by?.image?.startsWith("blob:") && by.image !== picture?.image) URL.revokeObjectURL(by.image);
  by = picture;
  $("by").hidden = !by;
  if (by) {
    $("by-image").src = by.image;
    $("by-name").textContent = by.name;
    $("by-image").alt = `The picture asked by: ${by.name}`;
  } else $("by-image").removeAttribute("src");
  weighing();
}

function weighing() {
  $("weighing").hidden = !(by && $("query").value.trim());
  $("twice").hidden = !twice || Boolean(by);
}

function remember(found) {
  // An upload is forgotten by the server, and its picture by this page: not kept.
  const state = { ...found, by: by?.like ? by : null };
  if (JSON.stringify(state) !== JSON.stringify(history.state)) history.pushState(state, "");
}

function recall(state) {
  $("query").value = state?.query ?? "";
  $("where").value = state?.where ?? "";
  if (state?.image_weight) $("weight").value = state.image_weight;
  $("twice-on").checked = Boolean(state?.rerank);
  setBy(state?.by ?? null);
  filter.mark();
  run({ keep: true });
}

// --- searching

async function run({ keep = false } = {}) {
  const found = request();
  running?.abort();
  wrong("");
  filter.mark();
  if (!found.query && !by) {
    if (found.where) wrong("Describe a person or give a picture: the filter alone does not order the pictures.");
    return fresh();
  }
  const mine = (running = new AbortController());
  if (!keep) remember(found);
  waiting(true);
  try {
    const answer = await api.search(found, mine.signal);
    [asked, version, hits] = [found, answer.version, []];
    $("grid").replaceChildren();
    add(answer);
    $("start").hidden = true;
    $("none").hidden = answer.hits.length > 0 || !found.where;
    filter.open(false);
    window.scrollTo({ top: 0 });
  } catch (error) {
    if (error.name === "AbortError") return;
    failed(error);
  } finally {
    if (running === mine) waiting(false);
  }
}

async function more() {
  $("more").disabled = true;
  $("status").textContent = "Loading more…";
  const first = hits.length;
  try {
    add(await api.search({ ...asked, skip: first, version }));
    document.querySelector(`#grid li:nth-child(${first + 1}) .shot`)?.focus();
  } catch (error) {
    if (error.status === 409) {
      await run({ keep: true });
      wrong("The index was renewed meanwhile: these are its results from the first one on.");
    } else failed(error);
  } finally {
    $("more").disabled = false;
  }
}

function like(hit) {
  setBy({ like: hit.key, name: hit.path, image: api.thumbnail(hit.key) });
  run();
  $("query").focus({ preventScroll: true });
}

async function give(file) {
  if (!file) return;
  wrong("");
  if (limits && file.size > limits.picture_bytes) {
    wrong(`This file has ${count(file.size)} bytes; ${count(limits.picture_bytes)} are the most.`);
    return;
  }
  waiting(true);
  $("status").textContent = "Sending the picture…";
  try {
    const { upload } = await api.give(file);
    setBy({ upload, name: file.name || "Pasted picture", image: URL.createObjectURL(file) });
    await run();
  } catch (error) {
    failed(error);
  } finally {
    waiting(false);
  }
}

async function save() {
  $("save").disabled = true;
  try {
    const page = await api.sheet({ ...asked, version, top: Math.min(hits.length, limits?.top ?? PAGE) });
    const link = make("a", { href: URL.createObjectURL(page), download: "found.html" });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
    $("status").textContent = `The first ${count(Math.min(hits.length, limits?.top ?? PAGE))} results were saved as found.html.`;
  } catch (error) {
    failed(error);
  } finally {
    $("save").disabled = false;
    if (document.activeElement === document.body) $("save").focus();
  }
}

// --- what is shown

function waiting(now) {
  $("grid").classList.toggle("waiting", now);
  $("results").setAttribute("aria-busy", String(now));
  if (now) $("status").textContent = "Searching…";
}

function wrong(words) {
  $("wrong").textContent = words;
  $("wrong").hidden = !words;
}

function failed(error) {
  wrong(error.message);
  $("status").textContent = hits.length ? "Below are still the results of the search before." : "";
  if (error.at !== null && error.at !== undefined) {
    filter.open(true);
    $("where").focus();
    const [word] = $("where").value.slice(error.at - 1).match(/^(\w+|.|$)/s);
    $("where").setSelectionRange(error.at - 1, error.at - 1 + word.length);
  }
  if (error.status === 404 && by?.upload) setBy(null);
}

function fresh() {
  [asked, hits] = [null, []];
  $("grid").replaceChildren();
  for (const id of ["more", "note", "none"]) $(id).hidden = true;
  $("start").hidden = false;
  $("save").disabled = true;
  $("status").textContent = "";
}

function add(answer) {
  const first = hits.length;
  hits.push(...answer.hits);
  $("grid").append(...answer.hits.map((hit, i) => card(hit, first + i)));
  const among = answer.searched === answer.total
    ? `${count(answer.total)} pictures`
    : `${count(answer.searched)} pictures that meet the filter (of ${count(answer.total)})`;
  $("status").textContent = hits.length
    ? `The ${count(hits.length)} nearest of ${among}${answer.recall === null ? "" : ", approximately"}, best first`
    : `None of ${count(answer.total)} pictures meets the filter`;
  $("note").hidden = !hits.length;
  $("note").classList.toggle("nobody", answer.matches === false);
  $("note").textContent = VERDICT[answer.matches];
  $("more").hidden = !answer.more;
  $("save").disabled = !hits.length;
}

function card(hit, number) {
  const image = make("img", { alt: "", loading: "lazy", decoding: "async", src: api.thumbnail(hit.key) });
  const shot = make("button", { type: "button", class: "shot", "aria-label": `Result ${hit.rank}, ${hit.path}: open` }, image);
  shot.addEventListener("click", () => viewer.show(number));
  shot.addEventListener("keydown", (event) => keys(event, number, hit));
  const button = make("button", { type: "button", class: "like", text: "Like this", "aria-label": `Search by result ${hit.rank}, ${hit.path}` });
  button.addEventListener("click", () => like(hit));
  // A time says itself that it is one; the viewer has all of it.
  const said = facts(hit).slice(0, 4).map(([name, value]) =>
    make("span", { class: "fact", text: name === "time" ? value.slice(0, 16) : `${name} ${value}` }));
  const match = hit.probability === null ? hit.score.toFixed(3) : percent(hit.probability);
  const head = make("span", {}, make("b", { text: String(hit.rank) }), `  ${match}`);
  const line = make("div", { class: "line" }, head, button);
  return make("li", {}, shot, make("div", { class: "cap" }, line, make("span", { class: "path", text: hit.path }), ...said));
}

// Arrows go from picture to picture, as they are seen.
function keys(event, number, hit) {
  const shots = [...document.querySelectorAll("#grid .shot")];
  const top = shots[0].offsetParent ? shots.map((each) => each.parentElement.offsetTop) : [];
  const columns = Math.max(1, top.findIndex((each) => each > top[0]) === -1 ? shots.length : top.findIndex((each) => each > top[0]));
  const steps = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns, ArrowDown: columns, Home: -number, End: shots.length - 1 - number };
  if (event.key === "s") {
    event.preventDefault();
    like(hit);
  } else if (event.key in steps && !event.ctrlKey && !event.metaKey && !event.altKey) {
    event.preventDefault();
    shots[number + steps[event.key]]?.focus();
  }
}

// --- beginning

function listen() {
  $("search").addEventListener("submit", (event) => {
    event.preventDefault();
    run();
  });
  $("query").addEventListener("input", weighing);
  $("weight").addEventListener("change", () => run());
  $("twice-on").addEventListener("change", () => run());
  $("by-remove").addEventListener("click", () => {
    setBy(null);
    run();
    $("query").focus();
  });
  $("pick").addEventListener("click", () => $("file").click());
  $("file").addEventListener("change", () => {
    give($("file").files[0]);
    $("file").value = "";
  });
  $("more").addEventListener("click", more);
  $("save").addEventListener("click", save);
  $("logout").addEventListener("click", async () => {
    await api.logout();
    location.assign("/login");
  });
  window.addEventListener("popstate", (event) => recall(event.state));
  document.addEventListener("keydown", (event) => {
    const typing = event.target.closest?.("input, textarea, select, dialog");
    if (event.key === "/" && !typing) {
      event.preventDefault();
      $("query").focus();
      $("query").select();
    }
  });
  document.addEventListener("paste", (event) => {
    const file = [...(event.clipboardData?.files ?? [])].find((each) => each.type.startsWith("image/"));
    if (file) give(file);
  });
  const hover = (show) => (event) => {
    if (![...(event.dataTransfer?.types ?? [])].includes("Files")) return;
    event.preventDefault();
    $("drop").hidden = !show;
  };
  document.addEventListener("dragover", hover(true));
  document.addEventListener("dragleave", (event) => event.relatedTarget || hover(false)(event));
  document.addEventListener("drop", (event) => {
    hover(false)(event);
    give(event.dataTransfer?.files?.[0]);
  });
}

async function begin() {
  viewer.start(() => hits, like, () => asked?.query ?? "");
  filter.start(() => run());
  listen();
  $("examples").append(
    ...EXAMPLES.map((text) => {
      const button = make("button", { type: "button", text });
      button.addEventListener("click", () => {
        $("query").value = text;
        weighing();
        run();
      });
      return make("li", {}, button);
    }),
  );
  try {
    const about = await api.about();
    limits = about.limits;
    twice = Boolean(about.second_stage);
    weighing();
    filter.columns(about.columns);
    $("total").textContent = count(about.total);
    $("about").textContent = `${count(about.total)} ${about.people ? "people in frames" : "pictures"} of “${about.images}”, by the model “${about.model}”. ${about.problem}`;
    $("audited").hidden = !about.audited;
    $("logout").hidden = about.who === "local";
  } catch (error) {
    failed(error);
  }
  if (history.state) recall(history.state);
  else $("query").focus();
  document.documentElement.dataset.ready = "yes";
}

begin();
