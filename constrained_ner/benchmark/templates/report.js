"use strict";
(() => {
  const documents = JSON.parse(document.getElementById("answers").textContent);
  const at = (id) => document.getElementById(id);
  const colours = { hit: "#009e73", miss: "#d55e00", false: "#0072b2" };

  function element(name, className, text) {
    const made = document.createElement(name);
    if (className) made.className = className;
    if (text !== undefined) made.textContent = text;
    return made;
  }

  // Offsets count code points.
  const surface = (points, fragments) =>
    fragments.map(([start, end]) => points.slice(start, end).join("")).join(" … ");

  // An entity has a lane of its own wherever it stands, so that nested ones lie below one another.
  function lanes(entities) {
    const ends = [];
    for (const entity of entities) {
      const start = entity.fragments[0][0];
      let lane = ends.findIndex((end) => end <= start);
      if (lane < 0) lane = ends.length;
      ends[lane] = entity.fragments[entity.fragments.length - 1][1];
      entity.lane = lane;
    }
    return ends.length;
  }

  function stripe(status) {
    const colour = colours[status];
    if (status === "hit") return `linear-gradient(${colour},${colour})`;
    const [dash, gap] = status === "miss" ? [6, 4] : [2, 2];
    return `repeating-linear-gradient(90deg,${colour} 0 ${dash}px,transparent ${dash}px ${dash + gap}px)`;
  }

  function marked(points, entities) {
    const shown = element("p", "text");
    const depth = lanes(entities);
    shown.style.lineHeight = `${26 + 5 * depth}px`;
    const cuts = new Set([0, points.length]);
    for (const entity of entities) entity.fragments.flat().forEach((cut) => cuts.add(cut));
    const places = [...cuts].sort((a, b) => a - b);
    for (let i = 0; i + 1 < places.length; i++) {
      const [start, end] = [places[i], places[i + 1]];
      const over = entities.filter((e) => e.fragments.some(([a, b]) => a <= start && end <= b));
      const text = points.slice(start, end).join("");
      if (!over.length) {
        shown.append(text);
        continue;
      }
      const mark = element("mark", "", text);
      mark.title = over.map((e) => `${e.label}: ${surface(points, e.fragments)}`).join("\n");
      mark.style.paddingBottom = `${5 * depth}px`;
      mark.style.backgroundImage = over.map((e) => stripe(e.status)).join(",");
      mark.style.backgroundSize = "100% 3px";
      mark.style.backgroundPosition = over
        .map((e) => `0 calc(100% - ${5 * (depth - 1 - e.lane)}px)`).join(",");
      shown.append(mark);
    }
    return shown;
  }

  function listed(points, entities) {
    const list = element("ul");
    for (const entity of entities) {
      const where = entity.fragments.map((fragment) => fragment.join("–")).join(", ");
      list.append(element("li", entity.status,
        `${entity.label}: ${surface(points, entity.fragments)} (${where})`));
    }
    return list;
  }

  const inOrder = (a, b) => a.fragments[0][0] - b.fragments[0][0] ||
    b.fragments[b.fragments.length - 1][1] - a.fragments[a.fragments.length - 1][1];
  const wrong = (shown, way) => way.error || way.false.length || way.hits.length < shown.gold.length;

  function answered(shown, points, level, way) {
    const hits = new Set(way.hits);
    const gold = shown.gold.map(([label, fragments], i) =>
      ({ label, fragments, status: hits.has(i) ? "hit" : "miss" }));
    const entities = [...gold,
      ...way.false.map(([label, fragments]) => ({ label, fragments, status: "false" }))];
    entities.sort(inOrder);
    const box = element("div");
    box.append(element("h4", "", `${level}: ${hits.size} found, ` +
      `${gold.length - hits.size} missed, ${way.false.length} false`));
    if (way.error) box.append(element("p", "error", way.error));
    box.append(marked(points, entities), listed(points, entities));
    if (at("raw").checked) way.answers.forEach((answer) => box.append(element("pre", "", answer)));
    return box;
  }

  const inData = () => documents.filter((d) => `${d.model}\n${d.data}` === at("data").value);

  function show() {
    const shown = inData()[at("document").selectedIndex];
    const place = at("shown");
    place.replaceChildren();
    if (!shown) return;
    const points = Array.from(shown.text);
    const gold = shown.gold.map(([label, fragments]) => ({ label, fragments, status: "hit" }));
    gold.sort(inOrder);
    const box = element("div", "gold");
    box.append(element("h4", "", `Gold: ${gold.length}`), marked(points, gold), listed(points, gold));
    place.append(box);
    const byVariant = new Map();
    for (const [name, way] of Object.entries(shown.ways)) {
      const cut = name.lastIndexOf(".");
      const [variant, level] = [name.slice(0, cut), name.slice(cut + 1)];
      if (at("variant").value && at("variant").value !== variant) continue;
      if (at("wrong").checked && !wrong(shown, way)) continue;
      if (!byVariant.has(variant)) byVariant.set(variant, element("div", "variant"));
      byVariant.get(variant).append(answered(shown, points, level, way));
    }
    for (const [variant, boxes] of byVariant) place.append(element("h3", "", variant), boxes);
    if (!byVariant.size) place.append(element("p", "", "No answers to show."));
  }

  function fill(select, options) {
    select.replaceChildren();
    for (const [value, text] of options) {
      const option = element("option", "", text);
      option.value = value;
      select.append(option);
    }
  }

  function chooseData() {
    fill(at("document"), inData().map((d, i) => {
      const ways = Object.values(d.ways);
      const number = ways.filter((way) => wrong(d, way)).length;
      return [i, `${d.id}: ${number} of ${ways.length} with errors`];
    }));
    show();
  }

  function move(step) {
    const select = at("document");
    const next = select.selectedIndex + step;
    if (next >= 0 && next < select.length) {
      select.selectedIndex = next;
      show();
    }
  }

  const several = new Set(documents.map((d) => d.model)).size > 1;
  const sets = new Map(documents.map((d) =>
    [`${d.model}\n${d.data}`, several ? `${d.model}: ${d.data}` : d.data]));
  const variants = new Set(documents.flatMap((d) =>
    Object.keys(d.ways).map((name) => name.slice(0, name.lastIndexOf(".")))));
  fill(at("data"), sets);
  fill(at("variant"), [["", "all"], ...[...variants].map((name) => [name, name])]);
  at("data").addEventListener("change", chooseData);
  for (const id of ["document", "variant", "wrong", "raw"]) at(id).addEventListener("change", show);
  at("previous").addEventListener("click", () => move(-1));
  at("next").addEventListener("click", () => move(1));
  chooseData();
})();
