"use strict";
// The drawings of one name: the map of its tracks and the tree that was cut, as SVG.

const SVG = document.querySelector("svg").namespaceURI; // so that the page has no address in it
const COLOURS = 8; // of the style sheet, told apart by colour-blind people as well
const MAP = { width: 520, height: 400, margin: 26 };
const TREE = { width: 520, row: 18, top: 8, bottom: 40, left: 8, labels: 190, leaves: 80 };
const MAP_TRACKS = 1500; // drawn at most; more cannot be told apart

const WAYS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

// Marks of one area, about 5 px in radius, so that clusters differ without colour as well.
const SHAPES = [
  "M-5 0a5 5 0 1 0 10 0a5 5 0 1 0 -10 0Z",
  "M-4.5 -4.5H4.5V4.5H-4.5Z",
  "M0 -6L5.6 4.4H-5.6Z",
  "M0 -6.2L6.2 0L0 6.2L-6.2 0Z",
  "M-1.9 -5.6H1.9V-1.9H5.6V1.9H1.9V5.6H-1.9V1.9H-5.6V-1.9H-1.9Z",
  "M0 6L-5.6 -4.4H5.6Z",
];

// Text is always set as text: names of a catalogue never become markup.
function element(tag, attributes = {}, ...children) {
  return filled(document.createElement(tag), attributes, children);
}

function drawn(tag, attributes = {}, ...children) {
  return filled(document.createElementNS(SVG, tag), attributes, children);
}

function filled(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value === true) node.setAttribute(name, "");
    else if (value !== false && value != null) node.setAttribute(name, value);
  }
  node.append(...children.filter((child) => child != null));
  return node;
}

function colourOf(cluster) {
  return cluster > 0 ? `colour-${(cluster - 1) % COLOURS}` : "colour-none";
}

function shapeOf(cluster) {
  return SHAPES[cluster > 0 ? (cluster - 1) % SHAPES.length : 0];
}

function markOf(cluster) {
  return drawn("svg", { viewBox: "-8 -8 16 16", class: "mark", "aria-hidden": "true" },
    drawn("path", { d: shapeOf(cluster), class: `point ${colourOf(cluster)}` }));
}

function counted(number, what) {
  return `${number} ${what}${number === 1 ? "" : "s"}`;
}

function shortened(text, length) {
  const letters = Array.from(text);
  return letters.length > length ? letters.slice(0, length - 1).join("") + "…" : text;
}

// The map. `chosen` holds the ticked tracks; `on` is told of hovering, leaving and ticking.
function drawMap(group, chosen, on) {
  const shown = group.tracks.map((track, at) => at).filter((at) => group.tracks[at].x != null);
  const some = shown.length > MAP_TRACKS ? thinned(group, shown) : shown;
  const xs = some.map((at) => group.tracks[at].x);
  const ys = some.map((at) => group.tracks[at].y);
  const [left, right] = ends(xs);
  const [low, high] = ends(ys);
  const scale = Math.min((MAP.width - 2 * MAP.margin) / (right - left || 1),
    (MAP.height - 2 * MAP.margin) / (high - low || 1));
  const taken = new Map();
  const places = some.map((at, i) => spread([
    MAP.width / 2 + (xs[i] - (left + right) / 2) * scale,
    MAP.height / 2 - (ys[i] - (low + high) / 2) * scale,
  ], taken));
  const svg = drawn("svg", {
    viewBox: `0 0 ${MAP.width} ${MAP.height}`, class: "map", role: "group",
    "aria-label": `Map of ${some.length} tracks: near means alike. Arrow keys move, Enter ticks.`,
  });
  const typical = new Set(group.clusters.flatMap((cluster) => cluster.typical));
  const nodes = some.map((at, i) => drawn("path", {
    d: shapeOf(group.tracks[at].cluster),
    class: `point ${colourOf(group.tracks[at].cluster)}`,
    transform: `translate(${places[i].map((p) => p.toFixed(1))})`
      + (typical.has(at) ? " scale(1.5)" : ""),
    role: "checkbox", "aria-checked": String(chosen.has(at)), tabindex: i ? "-1" : "0",
    "aria-label": spoken(group, at), "data-track": at,
  }));
  svg.append(...nodes);
  for (const cluster of group.clusters) {
    const own = places.filter((_, i) => group.tracks[some[i]].cluster === cluster.number);
    if (!own.length) continue;
    const middle = [0, 1].map((axis) => own.reduce((sum, p) => sum + p[axis], 0) / own.length);
    svg.append(drawn("text", {
      x: middle[0].toFixed(1), y: middle[1].toFixed(1), class: "number", "aria-hidden": "true",
    }, String(cluster.number)));
  }
  const trackOf = (event) => event.target.dataset?.track;
  const look = (event) => trackOf(event) && on.look(+trackOf(event), event.target);
  svg.addEventListener("pointerover", look);
  svg.addEventListener("focusin", look);
  for (const end of ["pointerout", "focusout"]) svg.addEventListener(end, () => on.leave());
  svg.addEventListener("click", (event) => trackOf(event) && on.tick(+trackOf(event)));
  svg.addEventListener("keydown", (event) => {
    const at = nodes.indexOf(event.target);
    if (at < 0 || event.ctrlKey || event.metaKey || event.altKey) return;
    const way = WAYS[event.key];
    if (way) {
      const next = nearest(places, at, way);
      if (next != null) {
        nodes[at].setAttribute("tabindex", "-1");
        nodes[next].setAttribute("tabindex", "0");
        nodes[next].focus();
      }
    } else if (event.key === "Enter" || event.key === " ") on.tick(some[at]);
    else if (event.key === "Escape") on.leave();
    else return;
    event.preventDefault();
  });
  return { svg, drawn: some.length, of: group.tracks.length, placed: shown.length };
}

// A name inside a text, so that its direction turns nothing around it.
function isolated(name) {
  return `\u2068${name.replace(/[\u202a-\u202e\u2066-\u2069]/g, "")}\u2069`;
}

function spoken(group, at) {
  const track = group.tracks[at];
  const where = track.cluster > 0 ? `artist ${track.cluster}` : "not grouped";
  const sure = track.confidence == null ? "" : `, confidence ${track.confidence.toFixed(2)}`;
  const names = [track.title || track.id, track.album].filter(Boolean).map(isolated);
  return [...names, where + sure].join(", ");
}

// An even choice of a huge group's tracks, with every cluster's most typical ones.
function thinned(group, shown) {
  const kept = new Set(group.clusters.flatMap((cluster) => cluster.typical));
  const step = shown.length / MAP_TRACKS;
  for (let place = 0; place < shown.length; place += step) kept.add(shown[Math.floor(place)]);
  return shown.filter((at) => kept.has(at));
}

function ends(values) {
  let [low, high] = [Infinity, -Infinity];
  for (const value of values) {
    low = Math.min(low, value);
    high = Math.max(high, value);
  }
  return [low, high];
}

// Tracks at one place go around it in a spiral, so that each can be pointed at.
function spread(place, taken) {
  const cell = place.map((p) => Math.round(p / 4)).join();
  const number = taken.get(cell) ?? 0;
  taken.set(cell, number + 1);
  const [radius, angle] = [3 * Math.sqrt(number), 2.4 * number];
  return [
    Math.min(MAP.width - 8, Math.max(8, place[0] + radius * Math.cos(angle))),
    Math.min(MAP.height - 8, Math.max(8, place[1] + radius * Math.sin(angle))),
  ];
}

// The next point that way: near, and more ahead than aside.
function nearest(places, from, way) {
  let [best, least] = [null, Infinity];
  places.forEach((place, at) => {
    const [x, y] = [place[0] - places[from][0], place[1] - places[from][1]];
    const ahead = x * way[0] + y * way[1];
    const aside = Math.abs(x * way[1]) + Math.abs(y * way[0]);
    if (at === from || ahead <= 0 || aside > 2 * ahead) return;
    if (ahead + 2 * aside < least) [best, least] = [at, ahead + 2 * aside];
  });
  return best;
}

// The tree: leaves are tracks, or branches of several where there are too many.
function drawTree(group, on) {
  const nodes = group.tracks.slice(0, group.merges.length + 1).map((track, at) => (
    { at, size: 1, height: 0, clusters: new Set([track.cluster]) }));
  const leaves = nodes.length;
  for (const [first, second, height] of group.merges) {
    const [a, b] = [nodes[first], nodes[second]];
    // A track that must stand with others may join them below their own height.
    const clusters = new Set([...a.clusters, ...b.clusters]);
    nodes.push({ first: a, second: b, size: a.size + b.size, clusters,
      height: Math.max(height, a.height, b.height) });
  }
  const root = nodes[nodes.length - 1];
  const open = opened(root, TREE.leaves);
  const tips = [];
  const order = [root];
  while (order.length) {
    const node = order.pop();
    if (open.has(node)) order.push(node.second, node.first);
    else tips.push(node);
  }
  const width = TREE.width - TREE.labels - TREE.left;
  const height = TREE.top + tips.length * TREE.row;
  const top = Math.max(root.height, group.cut ?? 0) * 1.03 || 1;
  const across = (value) => TREE.left + width * (1 - value / top);
  tips.forEach((node, row) => { node.y = TREE.top + (row + 0.5) * TREE.row; });
  const svg = drawn("svg", {
    viewBox: `0 0 ${TREE.width} ${height + TREE.bottom}`, class: "tree", role: "group",
    "aria-label": `Tree of ${leaves} tracks; branches that are cut are different artists`,
  });
  const inner = [...open].sort((a, b) => a.height - b.height || a.size - b.size);
  for (const node of inner) {
    node.y = (node.first.y + node.second.y) / 2;
    const [upper, lower] = [node.first, node.second].map((child) => (
      across(open.has(child) ? child.height : 0).toFixed(1)));
    const x = across(node.height).toFixed(1);
    const d = `M${upper} ${node.first.y}H${x}V${node.second.y}H${lower}`;
    const one = node.clusters.size === 1 ? colourOf([...node.clusters][0]) : "";
    svg.append(drawn("path", { d, class: `branch ${one}` }));
  }
  for (const node of tips) {
    const cluster = node.clusters.size === 1 ? [...node.clusters][0] : 0;
    const [x, y] = [across(0), node.y];
    const track = group.tracks[node.at];
    const title = node.size > 1 ? `${node.size} tracks` : track.title || track.id;
    const leaf = drawn("g", { class: "leaf", "data-track": node.at },
      drawn("path", {
        d: shapeOf(cluster), class: `point ${colourOf(cluster)}`,
        transform: `translate(${x + 7} ${y}) scale(0.8)`,
      }),
      drawn("text", { x: x + 17, y: y + 4 }, shortened(title, 27)));
    if (node.size === 1) {
      leaf.addEventListener("pointerenter", () => on.look(node.at, leaf));
      leaf.addEventListener("pointerleave", () => on.leave());
    }
    svg.append(leaf);
  }
  if (group.cut != null) {
    const x = across(group.cut).toFixed(1);
    const text = { x, y: height + 14, class: "small", "text-anchor": "middle" };
    svg.append(drawn("line", { x1: x, x2: x, y1: 0, y2: height, class: "cut" }),
      drawn("text", text, `cut ${group.cut.toPrecision(3)}`));
  }
  svg.append(drawn("text", { x: TREE.left, y: height + 32, class: "small" }, "← less alike"));
  return { svg, drawn: tips.length, of: leaves };
}

// The nodes to open from the root down, the highest first, until there are enough leaves.
function opened(root, most) {
  const open = new Set();
  let waiting = root.first ? [root] : [];
  while (waiting.length && open.size + 1 < most) {
    const next = waiting.reduce((best, node) => (node.height > best.height ? node : best));
    open.add(next);
    waiting = waiting.filter((node) => node !== next);
    for (const child of [next.first, next.second]) if (child.first) waiting.push(child);
  }
  return open;
}

// The two sides into which a cluster falls at its highest branch, as tracks; null for one track.
function branchesOf(group, number) {
  const leaves = group.merges.length + 1;
  const sizes = group.tracks.slice(0, leaves).map((track) => Number(track.cluster === number));
  let last = null;
  for (const [first, second] of group.merges) {
    if (sizes[first] && sizes[second]) last = [first, second];
    sizes.push(sizes[first] + sizes[second]);
  }
  const below = (node) => {
    const found = [];
    const waiting = [node];
    while (waiting.length) {
      const at = waiting.pop();
      if (at >= leaves) waiting.push(...group.merges[at - leaves].slice(0, 2));
      else if (group.tracks[at].cluster === number) found.push(at);
    }
    return found;
  };
  return last && last.map(below);
}
