"use strict";
// What the editor has decided: marks, told apart from those they contradict, stored, exported.
//
// A mark is about one name: {kind, name, parts: [{artist, tracks}], note}. Tracks of one number are
// one artist, tracks of different numbers are not. An answer to a proposal is
// {kind: "accepted" or "rejected", proposal, note}. Kind and note are for people.

const FORMAT = "hashbeam-review";
const FORMAT_VERSION = 1;
const ANSWERS = ["accepted", "rejected"];

class Review {
  constructor(runId, storage) {
    this.runId = runId;
    this.storage = storage;
    this.key = `hashbeam-review:${runId}`;
    this.kept = true; // whether marks survive a reload
    this.listeners = [];
    this.marks = this.stored();
  }

  stored() {
    try {
      return readReview(this.storage.getItem(this.key)).marks;
    } catch {
      return []; // nothing was stored, or by something else
    }
  }

  changed() {
    try {
      this.storage.setItem(this.key, this.asJson());
      this.kept = true;
    } catch {
      this.kept = false;
    }
    for (const listener of this.listeners) listener();
  }

  reload() {
    this.marks = this.stored();
    for (const listener of this.listeners) listener();
  }

  find(mark) {
    const wanted = signature(mark);
    return this.marks.find((one) => signature(one) === wanted);
  }

  // Sets marks; those that they contradict give way and are returned.
  set(marks) {
    const gone = this.marks.filter((old) => marks.some((mark) => contradicts(old, mark)));
    this.marks = this.marks.filter((old) => !gone.includes(old));
    this.marks.push(...marks.filter((mark) => !this.find(mark)));
    this.changed();
    return gone;
  }

  remove(marks) {
    this.marks = this.marks.filter((one) => !marks.includes(one));
    this.changed();
  }

  clear() {
    this.remove(this.marks);
  }

  // Takes in what was exported before; it counts for more than what stands here already.
  join(text) {
    const other = readReview(text);
    this.set(other.marks);
    return other;
  }

  // Number of the artist that a track was given, by its id; of one name.
  given(name) {
    const parts = this.marks.filter((mark) => mark.name === name).flatMap((mark) => mark.parts);
    return new Map(parts.flatMap(({ artist, tracks }) => tracks.map((id) => [id, artist])));
  }

  answers() {
    return this.marks.filter((mark) => mark.proposal);
  }

  asJson() {
    const content = { format: FORMAT, format_version: FORMAT_VERSION, run: this.runId };
    content.decisions = this.marks.flatMap(({ kind, name, parts, note }, at) => (
      (parts ?? []).map((part) => ({ name, ...part, kind, mark: at + 1, note }))));
    content.proposals = this.answers().map(({ kind, proposal, note }) => (
      { proposal, decision: kind, note }));
    return JSON.stringify(content, null, 1) + "\n";
  }

  asCsv() {
    const rows = [["run", "name", "artist", "track_id", "proposal", "decision"]];
    const names = [...new Set(this.marks.filter((mark) => mark.name).map((mark) => mark.name))];
    for (const name of names) {
      for (const [id, artist] of this.given(name)) {
        rows.push([this.runId, name, artist, id, "", ""]);
      }
    }
    for (const mark of this.answers()) {
      rows.push([this.runId, "", "", "", mark.proposal, mark.kind]);
    }
    return rows.map((row) => row.map(csvCell).join(",")).join("\r\n") + "\r\n";
  }
}

// One sign for what a mark says, whatever numbers a split has given out.
function signature(mark) {
  if (!mark.signature) {
    const parts = (mark.parts ?? []).map(({ tracks }) => JSON.stringify([...tracks].sort()));
    // Not enumerable: it is neither stored nor exported.
    Object.defineProperty(mark, "signature", {
      value: JSON.stringify([mark.kind, mark.name ?? "", mark.proposal ?? "", parts.sort()]),
    });
  }
  return mark.signature;
}

// Whether a track is given two artists, or a proposal two answers.
function contradicts(first, second) {
  if (second.proposal) return first.proposal === second.proposal && first.kind !== second.kind;
  if (first.name !== second.name) return false;
  const numbers = new Map(first.parts.flatMap(({ artist, tracks }) => (
    tracks.map((id) => [id, artist]))));
  return second.parts.some(({ artist, tracks }) => (
    tracks.some((id) => numbers.has(id) && numbers.get(id) !== artist)));
}

// An exported review as marks. Its extra keys say which decisions were one mark.
function readReview(text) {
  const content = JSON.parse(text);
  if (content?.format !== FORMAT || content.format_version !== FORMAT_VERSION) {
    throw new Error(`this is not a review of format ${FORMAT_VERSION}`);
  }
  const marks = new Map();
  (content.decisions ?? []).forEach((one, at) => {
    const whole = typeof one?.name === "string" && Number.isInteger(one.artist) && one.artist > 0
      && Array.isArray(one.tracks) && one.tracks.length
      && one.tracks.every((id) => typeof id === "string");
    if (!whole) throw new Error(`decision ${at + 1} is not whole`);
    const key = one.mark == null ? `alone ${at}` : JSON.stringify([one.mark, one.name]);
    const note = String(one.note ?? `${one.name} ${one.artist}`);
    const kind = String(one.kind ?? "accept");
    const mark = marks.get(key) ?? { kind, name: one.name, parts: [], note };
    mark.parts.push({ artist: one.artist, tracks: one.tracks });
    marks.set(key, mark);
  });
  const answers = (content.proposals ?? []).map((one, at) => {
    if (typeof one?.proposal !== "string" || !one.proposal || !ANSWERS.includes(one.decision)) {
      throw new Error(`proposal ${at + 1} is not whole`);
    }
    return { kind: one.decision, proposal: one.proposal, note: String(one.note ?? one.proposal) };
  });
  return { run: content.run, marks: [...marks.values(), ...answers] };
}

// What a spreadsheet computes, or takes for a number of its own, where a cell begins so; and cells
// that the apostrophe before it would make look like one that was guarded.
const COMPUTED = /^'*[=+\-@\t\r\n\uff1d\uff0b\uff0d\uff20]/;

// RFC 4180. Names and ids are strangers' words: a spreadsheet shows them as they are behind an
// apostrophe, which hashbeam takes away when it reads the file.
function csvCell(value) {
  const text = COMPUTED.test(value) ? `'${value}` : String(value);
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

function download(name, type, text) {
  const address = URL.createObjectURL(new Blob([text], { type }));
  const link = element("a", { href: address, download: name });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(address), 60_000);
}
