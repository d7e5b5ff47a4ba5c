const all = JSON.parse(document.getElementById("data").textContent);
const PAGE = 25;

const same = (a, b) => a.label === b.label && String(a.fragments) === String(b.fragments);

// ---- counts, once
const labels = new Map();
let entities = 0, failed = 0, hasConfidence = false;
// Documents without a single gold entity are not annotated.
const hasGold = all.some((one) => one.gold?.length);
for (const one of all) {
  if (one.error !== undefined) { failed += 1; continue; }
  if (!hasGold) delete one.gold;
  for (const entity of one.entities) {
    entities += 1;
    hasConfidence ||= entity.confidence !== undefined;
    entity.kind = one.gold ? (one.gold.some((g) => same(g, entity)) ? "hit" : "false") : "found";
    labels.set(entity.label, (labels.get(entity.label) || 0) + 1);
  }
  for (const entity of one.gold || []) {
    entity.kind = "miss";  // where it is shown at all
    if (!labels.has(entity.label)) labels.set(entity.label, 0);
  }
  one.troubled = one.left_out !== undefined || one.answers.some((a) => a.problems || a.forced);
}
const names = [...labels.keys()].sort();
const colour = new Map(names.map((name, i) => [name, COLOURS[i % COLOURS.length]]));
const hidden = new Set();
let page = 0;

// ---- the head
const n = (number, what) => `${number.toLocaleString("en")} ${what}${number === 1 ? "" : "s"}`;
byId("counts").textContent = [n(all.length, "document"), n(entities, "entity").replace("entitys", "entities"),
  ...(failed ? [`${n(failed, "document")} could not be answered`] : [])].join(" · ");
for (const name of names) {
  const button = make("button", { type: "button", title: "Show or hide" }, name, make("b", {}, labels.get(name).toLocaleString("en")));
  button.style.setProperty("--colour", colour.get(name));
  button.setAttribute("aria-pressed", "true");
  button.onclick = () => {
    hidden.has(name) ? hidden.delete(name) : hidden.add(name);
    button.setAttribute("aria-pressed", String(!hidden.has(name)));
    show();
  };
  byId("labels").append(button);
}
if (!hasGold) document.querySelectorAll(".gold").forEach((element) => element.remove());
if (!hasConfidence) byId("sure").remove();
for (const id of ["find", "only", "least"]) {
  byId(id)?.addEventListener("input", () => { page = 0; show(); });
}

// ---- documents
// What was found with less confidence than is asked for counts as not found: its gold entity is missed.
function comparedOf(one) {
  const least = Number(byId("least")?.value || 0);
  const found = one.entities.filter((e) => e.confidence === undefined || e.confidence >= least);
  return [...found, ...(one.gold || []).filter((g) => !found.some((e) => same(g, e)))];
}

const shownOf = (one) => comparedOf(one).filter((e) => !hidden.has(e.label));

function showKey() {
  const kinds = { hit: 0, false: 0, miss: 0, found: 0 };
  for (const one of all) if (one.error === undefined) for (const entity of comparedOf(one)) kinds[entity.kind] += 1;
  byId("key").replaceChildren();
  for (const [kind, words] of [["hit", "as in the gold annotation"], ["false", "not in it"], ["miss", "only in it"]]) {
    const tag = make("span", { className: `tag ${kind}` });
    tag.dataset.label = "label";
    tag.style.setProperty("--colour", "var(--soft)");
    byId("key").append(make("span", {}, tag, `${kinds[kind].toLocaleString("en")} ${words}`));
  }
}

function wanted(one) {
  const words = byId("find").value.trim().toLowerCase();
  if (words && !`${one.id}\n${one.text || ""}`.toLowerCase().includes(words)) return false;
  const only = byId("only").value;
  if (only === "problems") return one.error !== undefined || one.troubled;
  if (one.error !== undefined) return only === "all";
  if (only === "found") return shownOf(one).length > 0;
  if (only === "wrong") return shownOf(one).some((e) => e.kind === "miss" || e.kind === "false");
  return true;
}

function articleOf(one) {
  const article = make("article", {}, make("h2", {}, one.id || "without an id"));
  if (one.error !== undefined) {
    article.append(make("p", { className: "error" }, one.error));
    return article;
  }
  const shown = shownOf(one);
  article.append(textOf(one.text, shown, colour));
  const details = make("details", {}, make("summary", {}, "entities and answers"));
  details.ontoggle = () => { if (details.open && details.childElementCount === 1) fill(details, one); };
  for (const [start, end, why] of one.left_out || []) {
    article.append(make("p", { className: "error" }, `${start}–${end} was left out: ${why}`));
  }
  article.append(details);
  return article;
}

function fill(details, one) {
  const characters = Array.from(one.text);
  const rows = comparedOf(one);
  if (rows.length) {
    const table = make("table");
    table.append(make("tr", {}, ...["label", "text", "offsets", hasConfidence ? "confidence" : "", ""].map((h) => make("th", {}, h))));
    for (const e of rows) {
      table.append(make("tr", {}, ...[e.label, surface(e, characters), offsets(e), sure(e), KINDS[e.kind]].map((v) => make("td", {}, v))));
    }
    details.append(table);
  }
  for (const answer of one.answers) {
    const where = answer.segment ? `, characters ${answer.segment[0]}–${answer.segment[1]}` : "";
    const mass = answer.allowed_mass;
    const allowed = mass ? `; allowed mass ${mass[0].toFixed(3)}, least ${mass[1].toFixed(3)}` : "";
    const forced = answer.forced ? "; closed by the budget" : "";
    details.append(`${answer.format ?? one.format}: ${answer.labels.join(", ")}${where}${allowed}${forced}`, make("pre", {}, answer.answer));
    if (answer.settled !== undefined) details.append("settled:", make("pre", {}, answer.settled));
    if (answer.problems) {
      details.append(make("ul", {}, ...answer.problems.map(([kind, detail]) => make("li", {}, `${kind}: ${detail}`))));
    }
  }
}

function show() {
  if (byId("least")) byId("value").textContent = byId("least").value;
  if (hasGold) showKey();
  const found = all.filter(wanted);
  const pages = Math.max(1, Math.ceil(found.length / PAGE));
  page = Math.min(page, pages - 1);
  byId("documents").replaceChildren(...found.slice(page * PAGE, (page + 1) * PAGE).map(articleOf));
  if (!found.length) byId("documents").append(make("p", {}, "No documents."));
  for (const nav of document.querySelectorAll("nav.pages")) {
    nav.replaceChildren();
    if (pages === 1) continue;
    const turn = (words, by) => make("button", {
      type: "button", disabled: page + by < 0 || page + by >= pages,
      onclick: () => { page += by; show(); scrollTo(0, 0); },
    }, words);
    nav.append(turn("previous", -1), `page ${page + 1} of ${pages}, ${n(found.length, "document")}`, turn("next", 1));
  }
}
show();
