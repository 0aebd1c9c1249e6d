// Values as people read them, and small ways to build the page. Texts of others (paths,
// columns, errors) become text nodes here, never HTML.

export const $ = (id) => document.getElementById(id);

export function make(tag, options = {}, ...children) {
  const found = document.createElement(tag);
  for (const [name, value] of Object.entries(options)) {
    if (name === "text") found.textContent = value;
    else if (name === "class") found.className = value;
    else if (name in found) found[name] = value;
    else found.setAttribute(name, value);
  }
  found.append(...children);
  return found;
}

const whole = new Intl.NumberFormat("en");
export const count = (number) => whole.format(number);

// Never quite 0 or 100.
export function percent(share) {
  return share < 0.01 ? "<1 %" : share > 0.99 ? ">99 %" : `${Math.round(100 * share)} %`;
}

export function shown(value) {
  if (typeof value === "boolean") return value ? "yes" : "no";
  if (typeof value === "string" && /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d/.test(value)) {
    return value.slice(0, 19).replace("T", " ");
  }
  return String(value);
}

export function size(bytes) {
  return bytes < 1e6 ? `${(bytes / 1e3).toFixed(0)} kB` : `${(bytes / 1e6).toFixed(1)} MB`;
}

const boxed = ([x, y, width, height]) => `${width} × ${height} at ${x}, ${y}`;

// What is known of a hit beside its path: [name, text].
export function facts(hit) {
  const { size: bytes, width, height, ...rest } = hit.values;
  const box = hit.box ? [["box", boxed(hit.box)]] : [];
  const columns = Object.entries(rest).filter(([, value]) => value !== null);
  return [...columns.map(([name, value]) => [name, shown(value)]), ...box];
}

export function measures(hit) {
  const { size: bytes, width, height } = hit.values;
  return [["pixels", `${width} × ${height}`], ["file", size(bytes)]];
}
