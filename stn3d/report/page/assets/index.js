"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const $ = (selector, root = document) => root.querySelector(selector);
const $$ = (selector, root = document) => [...root.querySelectorAll(selector)];
const make = (tag, properties = {}, ...children) => {
  const node = Object.assign(document.createElement(tag), properties);
  node.append(...children);
  return node;
};

// Judgements: kept in the browser by the address of this page, saved to and loaded from CSV.
const store = "stn3d:" + location.pathname;
let judged = {};
try {
  judged = JSON.parse(localStorage.getItem(store)) || {};
} catch {
  judged = {};
}
const judgement = (row) => judged[row.name] || { decision: "", note: "" };
function judge(row, change) {
  judged[row.name] = { ...judgement(row), ...change };
  try {
    localStorage.setItem(store, JSON.stringify(judged));
  } catch {
    // the page works without; the CSV file still has everything
  }
}

const state = { key: "worst", down: false, status: "", text: "", range: null };
const rank = Object.fromEntries(data.statuses.map((status, n) => [status, n]));
const badness = (row) => {
  const column = data.columns.find((one) => one.better && row.values[one.key] != null);
  return column ? -column.better * row.values[column.key] : Infinity;
};
const value = (row, key) => {
  if (key === "name") return row.name;
  if (key === "status") return rank[row.status];
  if (key === "decision") return judgement(row).decision;
  return row.values[key];
};
function compare(a, b) {
  if (state.key === "worst") return rank[a.status] - rank[b.status] || badness(b) - badness(a) || (a.name < b.name ? -1 : 1);
  const [x, y] = [value(a, state.key), value(b, state.key)];
  if (x == null || y == null) return (x == null) - (y == null);
  const order = typeof x === "string" ? x.localeCompare(y, undefined, { numeric: true }) : x - y;
  return (state.down ? -order : order) || rank[a.status] - rank[b.status];
}
function matches(row) {
  if (state.status === "open" ? judgement(row).decision : state.status && row.status !== state.status) return false;
  if (state.range) {
    const x = row.values[state.range.key];
    if (x == null || x < state.range.low || x > state.range.high) return false;
  }
  const text = `${row.name} ${row.status} ${row.reason} ${row.fixed} ${row.moving} ${row.kind} ${judgement(row).note}`;
  return text.toLowerCase().includes(state.text);
}

const body = $("#table tbody");
const nodes = new Map();
function nodeOf(row, n) {
  const name = row.page ? make("a", { href: row.page, textContent: row.name }) : make("b", { textContent: row.name });
  const one = make("div", { className: "one" });
  if (row.thumbnail) {
    const image = make("img", { src: row.thumbnail, loading: "lazy", decoding: "async", alt: "" });
    one.append(row.page ? make("a", { href: row.page, tabIndex: -1 }, image) : image);
  }
  one.append(name);
  const status = make("td", {}, make("span", { className: `status ${row.status}`, textContent: row.status === "error" ? "no result" : row.status }));
  if (row.reason && row.status !== "good") status.append(make("p", { className: "why", textContent: row.reason }));
  const tr = make("tr", {}, make("td", {}, one), status);
  for (const column of data.columns) {
    const x = row.values[column.key];
    const cell = make("td", { className: "number", textContent: x == null ? "–" : x.toFixed(column.decimals) });
    cell.dataset.name = column.name;
    tr.append(cell);
  }
  const choice = make("fieldset", { className: "choice" }, make("legend", { textContent: `Judgement of ${row.name}` }));
  for (const [key, text] of [["accept", "Accept"], ["reject", "Reject"], ["", "Open"]]) {
    const input = make("input", { type: "radio", name: `judge-${n}`, value: key, checked: judgement(row).decision === key });
    input.addEventListener("change", () => { judge(row, { decision: key }); count(); });
    choice.append(make("label", {}, input, make("span", { textContent: text })));
  }
  const note = make("input", { type: "text", placeholder: "Note", value: judgement(row).note });
  note.setAttribute("aria-label", `Note on ${row.name}`);
  note.addEventListener("input", () => judge(row, { note: note.value }));
  tr.append(make("td", {}, make("div", { className: "judge" }, choice, note)));
  return tr;
}
function count() {
  const shown = data.rows.filter(matches).length;
  const decided = data.rows.filter((row) => judgement(row).decision).length;
  $("#shown").textContent = `${shown} of ${data.rows.length} shown, ${decided} judged`;
}
function show() {
  const rows = data.rows.filter(matches).sort(compare);
  const list = rows.map((row) => {
    if (!nodes.has(row)) nodes.set(row, nodeOf(row, data.rows.indexOf(row)));
    return nodes.get(row);
  });
  if (!list.length) list.push(make("tr", {}, make("td", { className: "empty", colSpan: 3 + data.columns.length, textContent: "Nothing matches." })));
  body.replaceChildren(...list);
  for (const button of $$("#table thead button")) {
    const sorted = button.dataset.key === state.key;
    button.parentElement.setAttribute("aria-sort", sorted ? (state.down ? "descending" : "ascending") : "none");
  }
  count();
}

for (const button of $$("#table thead button")) {
  button.addEventListener("click", () => {
    const key = button.dataset.key;
    state.down = state.key === key && !state.down;
    state.key = key;
    show();
  });
}
for (const input of $$("input[name=status]")) {
  input.addEventListener("change", () => { state.status = input.value; show(); });
}
$("#search").addEventListener("input", (event) => { state.text = event.target.value.toLowerCase(); show(); });

// A histogram of each metric; a bar filters the table.
for (const column of data.columns) {
  const values = data.rows.map((row) => row.values[column.key]).filter((x) => x != null);
  const low = Math.min(...values), high = Math.max(...values);
  const bins = high > low ? Math.min(24, Math.max(6, Math.ceil(Math.sqrt(values.length)) * 2)) : 1;
  const width = (high - low) / bins || 1;
  const counts = new Array(bins).fill(0);
  for (const x of values) counts[Math.min(bins - 1, Math.floor((x - low) / width))]++;
  const most = Math.max(...counts);
  const bars = make("div", { className: "bars" });
  counts.forEach((number, n) => {
    const range = { key: column.key, low: n ? low + n * width : low, high: n === bins - 1 ? high : low + (n + 1) * width };
    const fill = make("span");
    fill.style.height = `${number ? Math.max(4, (100 * number) / most) : 0}%`;
    const text = `${number} from ${range.low.toFixed(column.decimals)} to ${range.high.toFixed(column.decimals)}`;
    const bar = make("button", { type: "button", title: text, disabled: !number }, fill);
    bar.setAttribute("aria-label", `${column.name}: ${text}`);
    bar.setAttribute("aria-pressed", "false");
    bar.addEventListener("click", () => {
      const on = bar.getAttribute("aria-pressed") === "true";
      $$(".histogram button").forEach((one) => one.setAttribute("aria-pressed", "false"));
      bar.setAttribute("aria-pressed", String(!on));
      state.range = on ? null : range;
      show();
    });
    bars.append(bar);
  });
  const ends = make("div", { className: "ends" }, make("span", { textContent: low.toFixed(column.decimals) }), make("span", { textContent: high.toFixed(column.decimals) }));
  $("#histograms").append(make("div", { className: "histogram" }, make("h3", { textContent: column.name }), bars, ends));
}

const quoted = (text) => {
  const plain = String(text ?? "");
  // A cell that begins like a formula would be run by a spreadsheet.
  const safe = typeof text === "string" && /^[=+\-@\t\r]/.test(plain) ? "'" + plain : plain;
  return /[",\n\r]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
};
$("#save").addEventListener("click", () => {
  const keys = data.columns.map((column) => column.key);
  const lines = [["name", "decision", "note", "status", ...keys]];
  for (const row of data.rows) {
    const { decision, note } = judgement(row);
    lines.push([row.name, decision, note, row.status, ...keys.map((key) => row.values[key])]);
  }
  const text = lines.map((line) => line.map(quoted).join(",")).join("\n") + "\n";
  const link = make("a", { href: URL.createObjectURL(new Blob([text], { type: "text/csv" })), download: "judgements.csv" });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
});
function parsed(text) {
  const rows = [[]];
  for (const [, separator, whole, plain] of text.replace(/^\ufeff/, "").matchAll(/(^|,|\r?\n)(?:"((?:[^"]|"")*)"|([^",\r\n]*))/g)) {
    if (separator.includes("\n")) rows.push([]);
    const cell = whole === undefined ? plain : whole.replaceAll('""', '"');
    rows.at(-1).push(cell.replace(/^'(?=[=+\-@\t\r])/, ""));
  }
  return rows;
}
$("#load").addEventListener("change", async (event) => {
  const [file] = event.target.files;
  if (!file) return;
  const [head, ...lines] = parsed(await file.text());
  const at = ["name", "decision", "note"].map((name) => head.indexOf(name));
  if (at[0] < 0) {
    $("#shown").textContent = "This file has no column “name”; load a CSV file that this page saved.";
    return;
  }
  const known = new Map(data.rows.map((row) => [row.name, row]));
  for (const line of lines) {
    const row = known.get(line[at[0]]);
    if (row) judge(row, { decision: line[at[1]] || "", note: line[at[2]] || "" });
  }
  nodes.clear();
  show();
  event.target.value = "";
});
show();
