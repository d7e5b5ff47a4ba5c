"use strict";
// In page.css, for a light and a dark page. With many labels they come again, and every entity says
// its label anyway.
const COLOURS = Array.from({ length: 10 }, (_, i) => `var(--c${i})`);
const LANE = 5;

function make(name, properties = {}, ...children) {
  const element = Object.assign(document.createElement(name), properties);
  element.append(...children);
  return element;
}
const byId = (id) => document.getElementById(id);

// The text in pieces between the ends of fragments. Each entity has a lane below the text, free from
// its first to its last character; it is drawn through its fragments, and dotted between them.
function textOf(string, shown, colour) {
  const characters = Array.from(string);  // offsets count code points
  const first = (e) => e.fragments[0][0], last = (e) => e.fragments[e.fragments.length - 1][1];
  const ordered = [...shown].sort((a, b) => first(a) - first(b) || last(b) - last(a));
  const ends = [];
  for (const entity of ordered) {
    let lane = ends.findIndex((end) => end <= first(entity));
    if (lane < 0) lane = ends.length;
    ends[lane] = last(entity);
    entity.lane = lane;
  }
  const cuts = new Set([0, characters.length]);
  for (const entity of ordered) for (const [start, end] of entity.fragments) cuts.add(start).add(end);
  const places = [...cuts].sort((a, b) => a - b);
  const text = make("p", { className: "text" });
  text.dir = "auto";
  text.style.lineHeight = `calc(1.55em + ${ends.length * LANE}px)`;
  let active = [], next = 0;
  for (let i = 0; i + 1 < places.length; i++) {
    const [from, to] = [places[i], places[i + 1]];
    active = active.filter((e) => last(e) > from);
    const begin = new Map();  // those that begin here: alike ones have one tag
    for (; next < ordered.length && first(ordered[next]) === from; next++) {
      active.push(ordered[next]);
      const { label, kind } = ordered[next], key = `${kind} ${label}`;
      begin.set(key, { label, kind, times: (begin.get(key)?.times || 0) + 1 });
    }
    for (const { label, kind, times } of begin.values()) {
      const tag = make("span", { className: `tag ${kind}` });
      tag.dataset.label = times > 1 ? `${label} ×${times}` : label;
      tag.style.setProperty("--colour", colour.get(label));
      text.append(tag);
    }
    const piece = make("span", {}, characters.slice(from, to).join(""));
    if (active.length) {
      const inside = (e) => e.fragments.some(([start, end]) => start <= from && to <= end);
      piece.style.paddingBottom = `${ends.length * LANE + 1}px`;
      piece.style.backgroundImage = active.map((e) => {
        const c = colour.get(e.label);
        if (inside(e) && e.kind !== "miss") return `linear-gradient(${c}, ${c})`;
        const [on, off] = inside(e) ? [5, 9] : [1.5, 4];
        return `repeating-linear-gradient(90deg, ${c} 0 ${on}px, transparent ${on}px ${off}px)`;
      }).join(", ");
      piece.style.backgroundPosition = active.map((e) => `0 calc(100% - ${(ends.length - 1 - e.lane) * LANE}px)`).join(", ");
      const told = active.filter(inside);
      if (told.length) {
        piece.className = "on";
        piece.title = told.map((e) => describe(e, characters)).join("\n");
      }
    }
    text.append(piece);
  }
  return text;
}

const KINDS = { hit: "in the gold annotation", false: "not in the gold annotation", miss: "missed", found: "" };
const surface = (e, characters) => e.fragments.map(([s, t]) => characters.slice(s, t).join("")).join(" ");
const offsets = (e) => e.fragments.map(([s, t]) => `${s}–${t}`).join(", ");
const sure = (e) => (e.confidence === undefined ? "" : e.confidence.toFixed(2));
function describe(e, characters) {
  return [`${e.label}: ${surface(e, characters)}`, offsets(e), sure(e) && `confidence ${sure(e)}`, KINDS[e.kind]].filter(Boolean).join(" · ");
}
