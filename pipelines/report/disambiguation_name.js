"use strict";
// A name that was opened: its drawings, its artists with their marks, its tracks.

const LISTED = 200; // tracks at once

function detail(group) {
  const holder = element("div", { class: "opened" });
  const tip = element("div", { class: "tip", hidden: true, "aria-hidden": "true" });
  const lit = (at) => holder.querySelectorAll(`[data-track="${at}"]`);
  const on = {
    look(at, node) {
      on.leave();
      tip.replaceChildren(element("bdi", { dir: "ltr" }, spoken(group, at)));
      tip.hidden = false;
      tip.style.left = 0; // as wide as it wants to be, before it is measured
      const [box, place] = [holder.getBoundingClientRect(), node.getBoundingClientRect()];
      const left = Math.min(place.left - box.left + 14, box.width - tip.offsetWidth - 8);
      tip.style.left = `${Math.max(0, left)}px`;
      tip.style.top = `${place.bottom - box.top + 6}px`;
      for (const one of lit(at)) one.classList.add("lit");
    },
    leave() {
      tip.hidden = true;
      for (const one of holder.querySelectorAll(".lit")) one.classList.remove("lit");
    },
    tick(at) {
      const now = !group.chosen.delete(at);
      if (now) group.chosen.add(at);
      for (const one of lit(at)) {
        if (one.matches("[aria-checked]")) one.setAttribute("aria-checked", String(now));
        const box = one.querySelector("input");
        if (box) box.checked = now;
      }
      refresh();
    },
  };
  holder.append(...headOf(group), figuresOf(group, on),
    element("div", { class: "clusters" }, ...group.clusters.map((one) => clusterOf(group, one))));
  if (group.clusters.length) holder.append(marksOf(group, on));
  holder.append(tracksOf(group, on), tip);
  return holder;
}

function headOf(group) {
  const spelled = group.variants.flatMap(([name, count], at) => (
    [at ? ", " : "", element("bdi", {}, name), ` (${count})`]));
  return [
    element("p", { class: "quiet" }, group.facts.join(" · ")),
    group.variants.length > 1 ? element("p", { class: "quiet" }, "Spelled ", ...spelled) : "",
  ];
}

function figuresOf(group, on) {
  const charts = element("div", { class: "charts" });
  const add = (title, note, drawing) => charts.append(element("figure", { class: "card" },
    element("figcaption", {}, element("strong", {}, title), note), drawing));
  if (group.tracks.some((track) => track.x != null)) {
    const map = drawMap(group, group.chosen, on);
    const some = map.drawn < map.placed ? `${map.drawn} of ${map.placed} tracks are drawn. ` : "";
    const unheard = map.of - map.placed;
    add("Map", `Near means alike; large marks are typical. ${some}`
      + (unheard ? `${unheard} could not be heard.` : ""), map.svg);
  }
  if (group.merges.length) {
    const tree = drawTree(group, on);
    const some = tree.drawn < tree.of ? `${tree.of} tracks; the lowest branches are folded. ` : "";
    add("Tree", `${some}Branches that the dashed line cuts are different artists.`,
      element("div", { class: "tall", tabindex: "0", role: "region", "aria-label": "Tree" },
        tree.svg));
  }
  return charts;
}

function clusterOf(group, cluster) {
  const label = `artist ${cluster.number} of ${group.name}`;
  const box = element("input", { type: "checkbox", "aria-label": `Merge ${label}` });
  box.addEventListener("change", () => {
    if (box.checked) group.merging.add(cluster.number);
    else group.merging.delete(cluster.number);
    refresh();
  });
  const list = (title, items) => (items.length ? [
    element("h5", {}, title),
    element("ul", {}, ...items.map((item) => element("li", {}, ...item))),
  ] : []);
  return element("section", { class: "card cluster", "aria-label": label },
    element("h4", {}, markOf(cluster.number), `Artist ${cluster.number}`),
    element("p", { class: "quiet" }, cluster.text),
    ...list("Most typical", cluster.typical.map((at) => (
      [...trackName(group.tracks[at]), listenTo(group.tracks[at], "")]))),
    ...list("What sets it apart", cluster.apart.map((text) => (
      [element("bdi", { dir: "ltr" }, text)]))),
    ...list("Albums", cluster.albums.map(([name, count]) => (
      [element("bdi", {}, name), ` (${count})`]))),
    ...list("Known ids", cluster.ids.map(([name, count]) => (
      [element("bdi", {}, name), ` (${count})`]))),
    element("p", { class: "marks" },
      markButton("Accept", () => [acceptMark(group, cluster)], `Accept ${label}`),
      markButton("Split", () => [splitMark(group, cluster)].filter(Boolean),
        `Split ${label} into its two branches`),
      element("label", {}, box, " merge")));
}

// What concerns several artists of the name, or single tracks.
function marksOf(group, on) {
  const artist = element("select", { "aria-label": "Artist of the ticked tracks" },
    element("option", { value: "new" }, "a new artist"),
    ...group.clusters.map(({ number }) => (
      element("option", { value: number }, `artist ${number}`))));
  const move = element("button", { type: "button", class: "do" }, "Mark ticked tracks");
  move.addEventListener("click", () => {
    if (!group.chosen.size) {
      say("Tick tracks first, on the map or in the list of tracks.");
      return;
    }
    toggleMarks(moveMarks(group, artist.value === "new" ? newArtist(group) : +artist.value));
    for (const at of [...group.chosen]) on.tick(at);
  });
  return element("p", { class: "marks all-artists" },
    markButton("Accept all", () => group.clusters.map((one) => acceptMark(group, one)),
      `Accept all artists of ${group.name} as shown`),
    markButton("Merge ticked artists", () => [mergeMark(group)].filter(Boolean),
      `Merge ticked artists of ${group.name}`),
    element("span", {}, "Ticked tracks are by "), artist, move);
}

function trackName(track) {
  return [element("bdi", { class: "track" }, track.title || track.id),
    track.album ? element("bdi", { class: "quiet" }, track.album) : "", " "];
}

function tracksOf(group, on) {
  const folded = element("details", { class: "card" },
    element("summary", {}, `All ${group.tracks.length} tracks`));
  folded.addEventListener("toggle", () => {
    if (folded.open && folded.children.length === 1) folded.append(...trackTable(group, on));
  });
  return folded;
}

function trackTable(group, on) {
  const body = element("tbody");
  const more = element("button", { type: "button", class: "do" }, "Show more");
  const order = group.tracks.map((track, at) => at).sort((a, b) => (
    (group.tracks[a].cluster || Infinity) - (group.tracks[b].cluster || Infinity) || a - b));
  let next = 0;
  const show = () => {
    body.append(...order.slice(next, next + LISTED).map((at) => trackRow(group, at, on)));
    next += LISTED;
    more.hidden = next >= order.length;
  };
  more.addEventListener("click", show);
  show();
  const heads = ["Tick", "Artist", "Track", "Confidence", "Listen", "Remarks"];
  const head = element("tr", {}, ...heads.map((text) => element("th", { scope: "col" }, text)));
  const table = element("table", { class: "all" }, element("thead", {}, head), body);
  const about = { class: "scroll", tabindex: "0", role: "region", "aria-label": "All tracks" };
  return [element("div", about, table), more];
}

function trackRow(group, at, on) {
  const track = group.tracks[at];
  const box = element("input", { type: "checkbox", "aria-label": spoken(group, at) });
  box.checked = group.chosen.has(at);
  box.addEventListener("change", () => on.tick(at));
  return element("tr", { "data-track": at },
    element("td", {}, box),
    element("td", {}, markOf(track.cluster), String(track.cluster || "–")),
    element("td", {}, ...trackName(track)),
    element("td", {}, track.confidence == null ? "–" : track.confidence.toFixed(2)),
    element("td", {}, listenTo(track)),
    element("td", {}, element("bdi", { dir: "ltr" }, track.remark ?? "")));
}

// One player for all: hundreds of them would make the page slow.
function listenTo(track, otherwise = track.place ?? "") {
  if (!track.listen) return element("bdi", { class: "quiet" }, otherwise);
  const title = track.title || track.id;
  const label = { type: "button", class: "do", "aria-label": `Listen to ${title}` };
  const button = element("button", label, "▶");
  button.addEventListener("click", () => {
    const player = document.getElementById("player");
    document.getElementById("playing").replaceChildren(...trackName(track));
    document.getElementById("listen").hidden = false;
    player.src = track.listen;
    player.play().catch((error) => {
      if (error.name !== "AbortError") say(`${title} cannot be played. ${track.place ?? ""}`);
    });
  });
  return button;
}
