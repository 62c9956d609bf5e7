"use strict";
// The list of names: sorted, searched, opened; what is opened is drawn then, and can be marked.

const RUN = readData("run");
const review = new Review(RUN.id, window.localStorage);
const rows = [...document.querySelectorAll("tbody.name")].map((body) => ({
  body, number: +body.dataset.number, name: body.dataset.name, search: folded(body.dataset.search),
  tracks: +body.dataset.tracks, clusters: +body.dataset.clusters, doubt: +body.dataset.doubt,
  kind: body.dataset.kind, button: body.querySelector("button.open"),
  state: body.querySelector(".state"), key: body.dataset.key, group: null, undrawn: true,
}));
let buttons = []; // of marks that can be seen: [button, what gives its marks]

function readData(id) {
  return JSON.parse(document.getElementById(id).textContent);
}

function folded(text) {
  return text.normalize("NFKD").replace(/\p{M}/gu, "").toLowerCase();
}

function say(text) {
  document.getElementById("said").textContent = text;
}

// A name's data, parsed when it is first asked for: columns become tracks.
function groupOf(row) {
  if (row.group) return row.group;
  const group = readData(`group-${row.number}`);
  const names = Object.keys(group.columns);
  group.tracks = group.columns.id.map((id, at) => (
    Object.fromEntries(names.map((name) => [name, group.columns[name][at]]))));
  for (const track of group.tracks) track.cluster ??= 0;
  const places = new Map(group.tracks.map((track, at) => [track.id, at]));
  for (const cluster of group.clusters) {
    cluster.typical = cluster.typical.map((id) => places.get(id)).filter((at) => at != null);
    cluster.members = group.tracks.map((track, at) => at)
      .filter((at) => group.tracks[at].cluster === cluster.number);
  }
  group.chosen = new Set(); // ticked tracks
  group.merging = new Set(); // ticked clusters
  row.group = group;
  return group;
}

// ------------------------------------------------------------------ sorting and searching

const ORDERS = {
  name: (a, b) => a.name.localeCompare(b.name), tracks: (a, b) => a.tracks - b.tracks,
  clusters: (a, b) => a.clusters - b.clusters, doubt: (a, b) => a.doubt - b.doubt,
};

function sortRows(by, descending) {
  const sign = descending ? -1 : 1;
  rows.sort((a, b) => sign * ORDERS[by](a, b) || a.number - b.number);
  document.getElementById("names").append(...rows.map((row) => row.body));
  for (const head of document.querySelectorAll("th[data-sort]")) {
    const now = head.dataset.sort === by;
    head.setAttribute("aria-sort", now ? (descending ? "descending" : "ascending") : "none");
  }
}

function filterRows() {
  const wanted = folded(document.getElementById("search").value.trim());
  const kind = document.getElementById("kind").value;
  let shown = 0;
  for (const row of rows) {
    const fits = row.search.includes(wanted) && (kind === "all" || row.kind === kind
      || (kind === "open" && !row.body.classList.contains("decided")));
    row.body.hidden = !fits;
    shown += fits;
  }
  document.getElementById("shown").textContent = `${shown} of ${rows.length} names`;
}

// ------------------------------------------------------------------ marks

function part(group, artist, tracks) {
  return { artist, tracks: tracks.map((at) => group.tracks[at].id) };
}

// A number that no artist of the name has had.
function newArtist(group) {
  const given = review.given(group.key).values();
  return Math.max(group.highest, ...group.clusters.map((one) => one.number), ...given) + 1;
}

function acceptMark(group, cluster) {
  return {
    kind: "accept", name: group.key, parts: [part(group, cluster.number, cluster.members)],
    note: `${isolated(group.name)} ${cluster.number} is one artist`,
  };
}

// The two highest branches of a cluster; the larger keeps its number.
function splitMark(group, cluster) {
  const sides = branchesOf(group, cluster.number);
  if (!sides) return null;
  const [large, small] = sides.sort((a, b) => b.length - a.length);
  const fresh = newArtist(group);
  return {
    kind: "split", name: group.key,
    parts: [part(group, cluster.number, large), part(group, fresh, small)],
    note: `${isolated(group.name)} ${cluster.number} is two artists, of ${large.length} and`
      + ` ${small.length} tracks`,
  };
}

function mergeMark(group) {
  const some = group.clusters.filter((one) => group.merging.has(one.number));
  if (some.length < 2) return null;
  const lowest = Math.min(...some.map((one) => one.number));
  return {
    kind: "merge", name: group.key,
    parts: [part(group, lowest, some.flatMap((one) => one.members))],
    note: `${isolated(group.name)} ${some.map((one) => one.number).join(" and ")} are one artist`,
  };
}

// The ticked tracks belong to another artist; the others of their clusters stay as they are now.
function moveMarks(group, artist) {
  const given = review.given(group.key);
  const clusters = [...new Set([...group.chosen].map((at) => group.tracks[at].cluster))];
  return clusters.map((number) => {
    const numbers = new Map();
    group.tracks.forEach((track, at) => {
      if (track.cluster !== number || (number === 0 && !group.chosen.has(at))) return;
      const now = group.chosen.has(at) ? artist : given.get(track.id) ?? number;
      numbers.set(now, [...(numbers.get(now) ?? []), at]);
    });
    const count = [...group.chosen].filter((at) => group.tracks[at].cluster === number).length;
    const some = `${counted(count, "track")} of ${number}`;
    return {
      kind: "split", name: group.key,
      parts: [...numbers].map(([now, tracks]) => part(group, now, tracks)),
      note: `${isolated(group.name)}: ${some} moved to ${artist}`,
    };
  });
}

// A button that sets marks, or takes them back; `make` gives them as things stand.
function markButton(text, make, label) {
  const button = element("button", { type: "button", class: "do", "aria-label": label }, text);
  bindMarks(button, make);
  return button;
}

function bindMarks(button, make) {
  button.addEventListener("click", () => toggleMarks(make()));
  buttons.push([button, make]);
}

function toggleMarks(marks) {
  if (!marks.length) return;
  const found = marks.map((mark) => review.find(mark));
  const notes = (some) => some.map((mark) => mark.note).join("; ");
  if (found.every(Boolean)) {
    review.remove(found);
    say(`Taken back: ${notes(marks)}.`);
  } else {
    const gone = review.set(marks);
    say(`Marked: ${notes(marks)}.${gone.length ? ` No longer marked: ${notes(gone)}.` : ""}`);
  }
}

function refresh() {
  buttons = buttons.filter(([button]) => button.isConnected);
  for (const [button, make] of buttons) {
    const marks = make();
    button.disabled = !marks.length;
    const pressed = marks.length > 0 && marks.every((mark) => review.find(mark));
    button.setAttribute("aria-pressed", String(pressed));
  }
  const counts = new Map();
  for (const { name } of review.marks) counts.set(name, (counts.get(name) ?? 0) + 1);
  for (const row of rows) {
    const count = counts.get(row.key) ?? 0;
    row.body.classList.toggle("decided", count > 0);
    row.state.textContent = count ? `✓ ${count}` : "";
  }
  const number = review.marks.length;
  document.getElementById("count").textContent = counted(number, "mark");
  for (const button of document.querySelectorAll(".export")) button.disabled = !number;
  document.getElementById("unkept").hidden = review.kept;
  document.getElementById("marks").replaceChildren(...review.marks.map((mark) => element("li", {},
    element("strong", {}, mark.kind), " ", element("bdi", { dir: "ltr" }, mark.note), " ",
    element("button", { type: "button", class: "do", onclick: () => review.remove([mark]) },
      "Take back"))));
}

// ------------------------------------------------------------------ the page comes to life

function toggleRow(row) {
  const open = row.button.getAttribute("aria-expanded") !== "true";
  row.button.setAttribute("aria-expanded", String(open));
  if (open && row.undrawn) {
    row.body.append(element("tr", { class: "detail" },
      element("td", { colspan: 6 }, detail(groupOf(row)))));
    row.undrawn = false;
    refresh();
  }
  row.body.querySelector("tr.detail").hidden = !open;
}

function onNameKey(row, event) {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
  if (step) {
    const shown = rows.filter((one) => !one.body.hidden);
    shown[shown.indexOf(row) + step]?.button.focus();
  } else if (event.key.toLowerCase() === "a") {
    const group = groupOf(row);
    toggleMarks(group.clusters.map((cluster) => acceptMark(group, cluster)));
  } else return;
  event.preventDefault();
}

function bindAnswer(button) {
  const { proposal, answer, about } = button.dataset;
  const mark = { kind: answer, proposal, note: about };
  bindMarks(button, () => [mark]);
}

async function loadFile(event) {
  const [file] = event.target.files;
  try {
    const other = review.join(await file.text());
    const whose = other.run === RUN.id ? "" : ` It is the review of another run, ${other.run}.`;
    say(`${counted(other.marks.length, "mark")} read.${whose}`);
  } catch (error) {
    say(`${file.name} cannot be read: ${error.message}.`);
  }
  event.target.value = "";
}

function start() {
  for (const button of document.querySelectorAll("button[data-proposal]")) bindAnswer(button);
  for (const row of rows) {
    row.button.addEventListener("click", () => toggleRow(row));
    row.button.addEventListener("keydown", (event) => onNameKey(row, event));
  }
  for (const head of document.querySelectorAll("th[data-sort] button")) {
    head.addEventListener("click", () => {
      const { sort } = head.parentElement.dataset;
      const before = head.parentElement.getAttribute("aria-sort");
      sortRows(sort, before === "none" ? sort !== "name" : before === "ascending");
    });
  }
  const on = (id, kind, listener) => (
    document.getElementById(id).addEventListener(kind, listener));
  on("search", "input", filterRows);
  on("kind", "change", filterRows);
  on("json", "click", () => (
    download(`review-${RUN.file}.json`, "application/json", review.asJson())));
  on("csv", "click", () => download(`review-${RUN.file}.csv`, "text/csv", review.asCsv()));
  on("clear", "click", () => (
    window.confirm("Take back all marks of this page?") && review.clear()));
  on("load", "change", loadFile);
  document.addEventListener("keydown", (event) => {
    if (event.key !== "/" || event.target.matches("input, select, textarea")) return;
    event.preventDefault();
    document.getElementById("search").focus();
  });
  window.addEventListener("storage", (event) => event.key === review.key && review.reload());
  review.listeners.push(refresh);
  for (const hidden of document.querySelectorAll(".scripted")) hidden.hidden = false;
  refresh();
  filterRows();
}

start();
