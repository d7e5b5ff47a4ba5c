const known = JSON.parse(byId("known").textContent);
byId("model").textContent = known.model + (known.labels ? `, trained for ${known.labels.join(", ")}` : "");
byId("format").append(...[...known.formats, ...Object.keys(known.together)].map((name) => make("option", { selected: name === known.format }, name)));
byId("wanted").placeholder = known.labels ? known.labels.join(", ") : "Disease, Chemical";
if (!known.labels) byId("default").textContent = "with commas between them";

let asked = null;  // what stops the question that is being answered
let found = null;  // the last answer

byId("ask").onsubmit = async (event) => {
  event.preventDefault();
  if (asked) return;  // a second click asks nothing new
  asked = new AbortController();
  const started = performance.now();
  const seconds = () => ((performance.now() - started) / 1000).toFixed(1);
  const clock = setInterval(() => tell(`The model is answering: ${seconds()} s`), 500);
  busy(true);
  tell("The model is answering");
  try {
    const answer = await predicted(asked.signal);
    found = answer;
    show();
    tell(`${many(found.entities.length)} in ${seconds()} s`);
  } catch (error) {
    found = null;
    show();
    tell(error.name === "AbortError" ? "Cancelled" : error.message, true);
  } finally {
    clearInterval(clock);
    asked = null;
    busy(false);
  }
};
byId("cancel").onclick = () => asked?.abort();
byId("least").oninput = () => show();  // what is shown of an answer needs no other one
addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) byId("ask").requestSubmit();
  if (event.key === "Escape") asked?.abort();
});

async function predicted(signal) {
  const words = byId("wanted").value.split(",").map((label) => label.trim()).filter(Boolean);
  const body = JSON.stringify({
    text: byId("text").value, labels: words.length ? words : null, format: byId("format").value,
    level: byId("level").value, segment: byId("segment").value, details: true,
  });
  const response = await fetch("predict", { method: "POST", headers: { "Content-Type": "application/json" }, body, signal })
    .catch((error) => { throw error.name === "AbortError" ? error : new Error(`The server does not answer: ${error.message}`); });
  const answer = await response.json().catch(() => ({}));
  if (response.ok && answer.entities) return answer;
  const { detail } = answer;
  if (Array.isArray(detail)) throw new Error(detail.map(({ loc, msg }) => `${loc.slice(1).join(" ")}: ${msg}`).join("; "));
  throw new Error(detail || `The server does not answer: ${response.status} ${response.statusText}`);
}

function busy(now) {
  byId("extract").disabled = now;
  byId("cancel").hidden = !now;
  byId("found").setAttribute("aria-busy", String(now));
}

function tell(words, wrong = false) {
  byId("state").textContent = words;
  byId("state").classList.toggle("error", wrong);
}

const many = (number) => `${number} ${number === 1 ? "entity" : "entities"}`;

// The last answer, in place of what was there.
function show() {
  const least = Number(byId("least").value);
  byId("value").textContent = least;
  byId("found").replaceChildren(...(found ? partsOf(found, least) : []));
}

function partsOf(answer, least) {
  const names = [...new Set(answer.entities.map((entity) => entity.label))].sort();
  const colour = new Map(names.map((name, i) => [name, COLOURS[i % COLOURS.length]]));
  const sureEnough = answer.entities.filter((entity) => entity.confidence === undefined || entity.confidence >= least);
  const entities = sureEnough.map((entity) => ({ ...entity, kind: "found" }));
  const below = answer.entities.length - entities.length;
  return [
    ...answer.notes.map(note),
    ...(answer.left_out || []).map(([start, end, why]) => note(`${start}–${end} was left out: ${why}`)),
    textOf(answer.text, entities, colour),
    ...(entities.length ? [tableOf(entities, colour)] : []),
    ...(below ? [make("p", { className: "soft" }, `${many(below)} below ${least}`)] : []),
    answersOf(answer),
  ];
}

const note = (words) => make("p", { className: "note" }, words);

function tableOf(entities, colour) {
  const row = (kind, values) => make("tr", {}, ...values.map((value) => make(kind, {}, value)));
  return make("table", {}, row("th", ["label", "text", "offsets", "confidence"]), ...entities.map((entity) => {
    const tag = make("span", { className: "tag" });
    tag.dataset.label = entity.label;
    tag.style.setProperty("--colour", colour.get(entity.label));
    return row("td", [tag, entity.surface, offsets(entity), sure(entity)]);
  }));
}

// Prompts, answers and grammars, made when somebody wants to see them: of a long text they are many.
function answersOf(answer) {
  const number = answer.answers.length;
  const details = make("details", {}, make("summary", {}, `${number} ${number === 1 ? "question" : "questions"} and what the model wrote`));
  details.ontoggle = () => { if (details.open && details.childElementCount === 1) details.append(...answer.answers.flatMap((one) => answerOf(one, answer.text))); };
  return details;
}

function answerOf(answer, text) {
  const mass = answer.allowed_mass;
  const allowed = mass ? `; allowed mass ${mass[0].toFixed(3)}, least ${mass[1].toFixed(3)}` : "";
  const parses = answer.parses ? "" : "; does not parse";
  const [start, end] = answer.segment || [0, [...text].length];
  const columns = make("div", { className: "columns" });
  for (const [head, words] of [["prompt", answer.prompt], ["answer", answer.answer], ["settled", answer.settled], ["grammar", answer.grammar]]) {
    if (words) columns.append(make("div", {}, make("h3", {}, head), make("pre", {}, words)));
  }
  return [
    make("h2", {}, `${answer.labels.join(", ")}: characters ${start}–${end}, ${answer.tokens} tokens${allowed}${parses}${answer.forced ? "; closed by the budget" : ""}`),
    columns,
    ...(answer.problems.length ? [make("ul", {}, ...answer.problems.map(([kind, detail]) => make("li", {}, `${kind}: ${detail}`)))] : []),
  ];
}
