// Pictures come in one after another, and each gets a card. The page that includes this has
// predict(file, say): the answer to a file, or an Error; say(words) tells what is going on.
const TEXTS = {{ script_texts("cards.script.") | tojson }};
const TOP = 5, KEPT = 20;
const find = id => document.getElementById(id);
const text = (key, values = {}) => TEXTS[key].replace(/\{(\w+)\}/g, (_, name) => values[name]);
const waiting = [];
let working = false;

// Labels, names and messages come from others: they become text, never HTML.
function add(parent, tag, name, content = "") {
  const element = parent.appendChild(document.createElement(tag));
  element.className = name;
  element.textContent = content;
  return element;
}

function send(files) {
  files = [...files];
  find("notice").textContent = files.length ? "" :
    text("no_picture");
  waiting.push(...files);
  work();
}

async function work() {
  if (working) return;
  working = true;
  while (waiting.length) {
    const file = waiting.shift();
    showWaiting();
    await classify(file);
  }
  working = false;
  showWaiting();
}

function showWaiting() {
  find("waiting").hidden = !waiting.length;
  find("waiting").textContent = text("waiting", { count: waiting.length });
}

async function classify(file) {
  const card = newCard(file);
  const answer = card.querySelector(".answer"), state = card.querySelector(".state");
  const say = (words = text("classifying")) => { card.querySelector(".doing").textContent = words; };
  try {
    const prediction = await predict(file, say);
    state.remove();
    showPrediction(answer, prediction);
    const best = prediction.predictions[0];
    find("status").textContent = prediction.unknown ? text("status_unknown", { name: file.name })
      : text("status", { name: file.name, label: best.label, percent: percent(best.probability) });
  } catch (error) {
    state.remove();
    add(answer, "p", "error", error.message).setAttribute("role", "alert");
  }
  card.removeAttribute("aria-busy");
}

function newCard(file) {
  const card = find("card").content.cloneNode(true).firstElementChild;
  const image = card.querySelector("img");
  card.querySelector(".name").textContent = `${file.name} · ${megabytes(file)}`;
  const url = image.src = URL.createObjectURL(file);
  image.alt = file.name;
  image.onload = () => URL.revokeObjectURL(url);
  image.onerror = () => {  // TIFF, for one, which the server reads and browsers do not
    URL.revokeObjectURL(url);
    const place = image.parentNode;
    image.remove();
    const words = add(place, "div", "placeholder");
    add(words, "strong", "", file.name);
    add(words, "span", "", text("not_shown"));
  };
  find("results").prepend(card);
  while (find("results").children.length > KEPT) find("results").lastElementChild.remove();
  document.body.classList.add("used");
  return card;
}

function showPrediction(place, prediction) {
  if (prediction.unknown) {
    const mark = add(place, "p", "unknown");
    add(mark, "strong", "", text("unknown"));
    add(mark, "span", "", text(prediction.reason === "unlike anything seen" ? "unlike" : "unsure"));
  }
  const list = add(place, "ol", prediction.unknown ? "bars doubtful" : "bars");
  list.setAttribute("role", "list");
  for (const { label, probability } of prediction.predictions) {
    const row = add(list, "li", "");
    add(row, "span", "label", label).dir = "auto";
    add(row, "span", "percent", percent(probability));
    add(add(row, "span", "track"), "span", "fill").style.width = `${probability * 100}%`;
  }
  add(place, "p", "faint made", `${prediction.model} · ${prediction.ms.toFixed(1)} ms`);
}

const percent = probability => `${(probability * 100).toFixed(1)}%`;
const megabytes = file => file.size < 1e5 ? `${Math.ceil(file.size / 1e3)} kB`
  : `${(file.size / 1e6).toFixed(1)} MB`;

for (const id of ["files", "camera"]) {
  find(id).onchange = event => {
    if (event.target.files.length) send(event.target.files);
    event.target.value = "";  // the same file may be chosen again
  };
}
addEventListener("dragover", event => {
  event.preventDefault();
  document.body.classList.add("over");
});
addEventListener("dragleave", event => {
  if (!event.relatedTarget) document.body.classList.remove("over");
});
addEventListener("drop", event => {
  event.preventDefault();
  document.body.classList.remove("over");
  send(event.dataTransfer.files);
});
addEventListener("paste", event => {
  if (event.target.tagName !== "INPUT") send(event.clipboardData.files);
});
