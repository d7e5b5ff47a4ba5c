const known = JSON.parse(byId("known").textContent);
byId("model").textContent = known.model + (known.labels.length ? `, trained for ${known.labels.join(", ")}` : "");
byId("format").append(...known.formats.map((name) => make("option", { selected: name === known.format }, name)));
byId("wanted").placeholder = known.labels.join(", ") || "Disease, Chemical";

byId("ask").onsubmit = async (event) => {
  event.preventDefault();
  const words = byId("wanted").value.split(",").map((label) => label.trim()).filter(Boolean);
  tell("…");
  byId("found").replaceChildren();
  const started = performance.now();
  try {
    const response = await fetch("predict", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({
        text: byId("text").value, labels: words.length ? words : null, format: byId("format").value,
        level: byId("level").value, segment: byId("segment").value, details: true,
      }),
    });
    const found = await response.json();
    if (!response.ok) return tell(typeof found.detail === "string" ? found.detail : JSON.stringify(found.detail), true);
    show(found);
    const seconds = ((performance.now() - started) / 1000).toFixed(1);
    tell(`${found.entities.length} ${found.entities.length === 1 ? "entity" : "entities"} in ${seconds} s`);
  } catch (error) {
    tell(`The server did not answer: ${error.message}`, true);
  }
};

function tell(words, wrong = false) {
  byId("state").textContent = words;
  byId("state").classList.toggle("error", wrong);
}

function show(found) {
  const names = [...new Set(found.entities.map((entity) => entity.label))].sort();
  const colour = new Map(names.map((name, i) => [name, COLOURS[i % COLOURS.length]]));
  const entities = found.entities.map((entity) => ({ ...entity, kind: "found" }));
  const section = byId("found");
  section.append(textOf(found.text, entities, colour));
  const table = make("table");
  for (const entity of entities) {
    table.append(make("tr", {}, ...[entity.label, entity.surface, offsets(entity), sure(entity)].map((value) => make("td", {}, value))));
  }
  section.append(table);
  for (const note of found.notes) section.append(make("p", { className: "error" }, note));
  for (const [start, end, why] of found.left_out || []) {
    section.append(make("p", { className: "error" }, `${start}–${end} was left out: ${why}`));
  }
  for (const answer of found.answers) {
    const mass = answer.allowed_mass;
    const allowed = mass ? `; allowed mass ${mass[0].toFixed(3)}, least ${mass[1].toFixed(3)}` : "";
    const parses = answer.parses ? "" : "; does not parse";
    const [start, end] = answer.segment || [0, [...found.text].length];
    section.append(make("h2", {}, `${answer.labels.join(", ")}: characters ${start}–${end}, ${answer.tokens} tokens${allowed}${parses}${answer.forced ? "; closed by the budget" : ""}`));
    const columns = make("div", { className: "columns" });
    for (const [head, words] of [["prompt", answer.prompt], ["answer", answer.answer], ["settled", answer.settled], ["grammar", answer.grammar]]) {
      if (words) columns.append(make("div", {}, make("h3", {}, head), make("pre", {}, words)));
    }
    section.append(columns);
    if (answer.problems.length) {
      section.append(make("ul", {}, ...answer.problems.map(([kind, detail]) => make("li", {}, `${kind}: ${detail}`))));
    }
  }
}
