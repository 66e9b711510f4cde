"use strict";
const TEXTS = {{ script_texts("label.script.") | tojson }};
const KEYS = "123456789abcdefghijklmnopqrstuvwxyz";
const REMOVED = "_removed", CLASS = "class:";
const POLL = 1500, MOST_NOTICED = 8000, MOST_SENT = 100, GAP = 12, CAPTION = 28, OVERSCAN = 1;
const find = id => document.getElementById(id);
const grid = find("grid"), canvas = find("canvas"), large = find("large");

const photos = new Map();  // id -> what the server has said of the photo
const cells = new Map();  // id -> its element, of those that are in sight
const chosen = new Set(), skipped = new Set(), failed = new Set(), asked = new Set();
const outbox = [];  // what the server has not confirmed yet
let ids = [], queue = null, cursor = 0, anchor = 0;
let classes = [], version = 0, order = 0, state = null, columns = 1;
let sending = false, isRead = false;

function text(key, values = {}) {
  return TEXTS[key].replace(/\{(\w+)\}/g, (_, name) => values[name]);
}

const QUEUE_NAMES = {
  unsorted: text("queue_unsorted"), kept: text("queue_kept"), doubtful: text("queue_doubtful"),
  audit: text("queue_audit"), conflicts: text("queue_conflicts"), removed: text("queue_removed"),
};

// Names and messages come from others: they become text, never HTML.
function add(parent, tag, name, content = "") {
  const element = parent.appendChild(document.createElement(tag));
  element.className = name;
  element.textContent = content;
  return element;
}

const count = number => number.toLocaleString(document.documentElement.lang);
const percent = probability => `${Math.round(probability * 100)}%`;
const baseName = path => path.slice(path.lastIndexOf("/") + 1);
const sleep = time => new Promise(done => setTimeout(done, time));

// Talking with the server

async function ask(path, body) {
  const request = body === undefined ? {} : {
    method: "POST", body: JSON.stringify(body), headers: { "Content-Type": "application/json" } };
  let response, answer;
  try {
    response = await fetch(path, request);
    answer = await response.json();
  } catch {
    throw Object.assign(new Error(text("lost", { count: outbox.length })), { lost: true });
  }
  if (response.ok) return answer;
  // Another process has the port: what waits here is kept, as while nothing answers.
  const lost = response.status === 404;
  const message = lost ? text("lost", { count: outbox.length }) : answer.error;
  throw Object.assign(new Error(message), { lost, done: answer.done });
}

let noticedUntil = 0;
function notice(message, time = 0) {
  find("notice").textContent = message;
  noticedUntil = Date.now() + time;
}

function send(entry) {
  outbox.push(entry);
  work();
}

const waitingIds = () => new Set(outbox.flatMap(entry => entry.label?.ids ?? []));

async function work() {
  if (sending) return;
  sending = true;
  while (outbox.length) {
    // Labels that wait go together; each is a step of its own all the same.
    const other = outbox.findIndex(entry => !entry.label);
    const labels = outbox.slice(0, other < 0 ? MOST_SENT : Math.min(other, MOST_SENT));
    const { path, body, done } = outbox[0];
    try {
      const answer = labels.length ? await ask("api/label", { labels: labels.map(entry => entry.label) })
        : await ask(path, body);
      outbox.splice(0, labels.length || 1);
      if (Date.now() >= noticedUntil) notice("");
      if (done) await done(answer);
    } catch (error) {
      if (error.lost) {
        notice(text("lost", { count: outbox.length }));
        await sleep(1000);
      } else {
        const ended = outbox.splice(0, (error.done ?? 0) + 1);
        // What the page took for done is asked for again.
        ended.flatMap(entry => entry.label?.ids ?? []).forEach(id => photos.delete(id));
        await refresh();
        await readQueue();
        notice(error.message, MOST_NOTICED);
      }
    }
  }
  sending = false;
  refresh();
}

addEventListener("beforeunload", event => { if (outbox.length) event.preventDefault(); });

async function refresh() {
  let answer;
  try {
    answer = await ask(`api/state?since=${version}`);
  } catch (error) {
    if (error.lost) notice(error.message);
    return;
  }
  if (answer.version < version) return;  // a later answer has overtaken it
  if (!outbox.length && find("notice").textContent === text("lost", { count: 0 })) notice("");
  const isFirst = !state, waiting = waitingIds();
  let moved = answer.reload;
  if (answer.reload) photos.clear();  // not all that have changed are named
  for (const photo of answer.changed) {
    if (waiting.has(photo.id)) continue;
    photos.set(photo.id, photo);
    moved ||= belongs(photo) !== place.has(photo.id);
    drawCell(photo.id);
  }
  state = answer;
  version = answer.version;
  classes = answer.classes;
  show();
  const newOrder = answer.suggestions?.order ?? 0;
  const sorted = newOrder !== order && queue === "unsorted";
  if (newOrder !== order) asked.clear();
  order = newOrder;
  if (isFirst) await openQueue(answer.first_queue);
  else if (moved || sorted) await readQueue(true);
  if (sorted) readPhotos();
}

async function poll() {
  for (;;) {
    await sleep(POLL);
    if (!document.hidden && !sending) await refresh();
  }
}

// Queues

let place = new Map();  // id -> position in `ids`

function setIds(list) {
  ids = list;
  place = new Map(list.map((id, i) => [id, i]));
  cursor = Math.max(0, Math.min(cursor, ids.length - 1));
  for (const id of chosen) if (!place.has(id)) chosen.delete(id);
}

const isHinted = () => ["doubtful", "audit", "conflicts"].includes(queue);

function belongs(photo) {
  if (queue === "unsorted") return photo.name === null;
  if (queue === "removed") return photo.name === REMOVED;
  if (queue?.startsWith(CLASS)) return photo.name === queue.slice(CLASS.length);
  return place.has(photo.id) && (photo.hint || queue === "kept") && (queue !== "kept" || photo.name === null);
}

async function openQueue(name) {
  queue = name;
  setIds([]);
  anchor = 0;
  chosen.clear();
  for (const cell of cells.values()) cell.remove();
  cells.clear();
  grid.scrollTop = 0;
  await readQueue();
  show();
  grid.focus({ preventScroll: true });
}

// `steady`: what is in sight stays where it is, and the rest takes the new order.
async function readQueue(steady = false) {
  const name = queue, current = ids[cursor];
  let answer;
  try {
    answer = await ask("api/queue", { name });
  } catch (error) {
    notice(error.message);
    return;
  }
  if (name !== queue) return;
  // The answer may be older than the last labels.
  const waiting = waitingIds(), hasLeft = id => !isHinted() && queue !== "kept" && photos.has(id) && !belongs(photos.get(id));
  const open = answer.ids.filter(id => !waiting.has(id) && !hasLeft(id));
  let list = [...open.filter(id => !skipped.has(id)), ...open.filter(id => skipped.has(id))];
  if (steady) {
    const there = new Set(list), kept = ids.slice(0, sight()[1]).filter(id => there.has(id));
    const first = new Set(kept);
    list = [...kept, ...list.filter(id => !first.has(id))];
  }
  isRead = true;
  setIds(list);
  if (place.has(current)) cursor = place.get(current);
  layOut();
}

// The grid: only what is in sight has elements

function layOut() {
  columns = Math.max(2, Math.floor((canvas.clientWidth + GAP) / (Number(find("size").value) + GAP)));
  canvas.style.height = `${Math.ceil(ids.length / columns) * rowHeight()}px`;
  grid.hidden = isRead && !ids.length;
  find("empty").hidden = !isRead || ids.length > 0;
  if (!ids.length && large.open) large.close();
  draw();
}

const cellWidth = () => (canvas.clientWidth - GAP * (columns - 1)) / columns;
const rowHeight = () => Math.min(Number(find("size").value), Math.round(cellWidth())) + CAPTION + GAP;

function sight() {
  const first = Math.max(0, Math.floor(grid.scrollTop / rowHeight()) - OVERSCAN);
  const last = Math.ceil((grid.scrollTop + grid.clientHeight) / rowHeight()) + OVERSCAN;
  return [first * columns, Math.min(ids.length, last * columns)];
}

function draw() {
  const [first, last] = sight();
  for (const [id, cell] of cells) {
    const i = place.get(id);
    if (i === undefined || i < first || i >= last) {
      cell.remove();
      cells.delete(id);
    }
  }
  const width = cellWidth(), height = rowHeight() - GAP;
  for (let i = first; i < last; i++) {
    const cell = cells.get(ids[i]) ?? newCell(ids[i]);
    const x = (i % columns) * (width + GAP), y = Math.floor(i / columns) * rowHeight();
    cell.style.cssText = `width:${width}px;height:${height}px;left:${x}px;top:${y}px`;
    cell.setAttribute("aria-posinset", i + 1);
    cell.setAttribute("aria-setsize", ids.length);
    cell.setAttribute("aria-selected", chosen.has(ids[i]));
    cell.classList.toggle("cursor", i === cursor);
  }
  const current = cells.get(ids[cursor]);
  if (current) grid.setAttribute("aria-activedescendant", current.id);
  else grid.removeAttribute("aria-activedescendant");
  showChosen();
  readPhotos();
}

function newCell(id) {
  const cell = add(canvas, "div", "cell");
  cell.id = `photo-${id}`;
  cell.setAttribute("role", "option");
  const image = add(add(cell, "div", "image"), "img", "");
  image.alt = "";
  image.draggable = false;
  image.decoding = "async";
  image.onerror = () => {
    failed.add(id);
    const box = image.parentNode;
    image.remove();
    if (box && !box.firstChild) add(box, "span", "", text("no_picture"));
  };
  image.src = `thumbnail/${id}`;
  add(cell, "div", "words");
  const zoom = add(cell, "span", "zoom", "⤢");  // for the mouse; the keyboard has Space
  zoom.setAttribute("aria-hidden", "true");
  zoom.onclick = event => {
    event.stopPropagation();
    moveTo(place.get(id));
    openLarge();
  };
  cells.set(id, cell);
  drawCell(id);
  return cell;
}

function drawCell(id) {
  const cell = cells.get(id), photo = photos.get(id);
  if (!cell || !photo) return;
  const words = cell.querySelector(".words"), offer = suggestion(photo);
  words.replaceChildren();
  if (photo.name !== null) add(words, "b", "", photo.name === REMOVED ? text("removed") : photo.name).dir = "auto";
  if (offer && offer !== photo.name) add(words, "span", "guess", text("guess", { name: offer })).dir = "auto";
  if (photo.probability !== undefined && offer === photo.guess) add(words, "span", "number", percent(photo.probability));
  if (!words.firstChild) add(words, "span", "faint", baseName(photo.path)).dir = "auto";
  cell.setAttribute("aria-label", [baseName(photo.path), photo.name ?? text("no_class"), offer && text("guess", { name: offer })]
    .filter(Boolean).join(", "));
  cell.title = [photo.path, photo.hint?.detail].filter(Boolean).join("\n");
}

// A guess is for a photo without a class; what somebody has decided it does not question.
const suggestion = photo => photo.hint?.suggested ?? (photo.name === null ? photo.guess : undefined);

let reading = false;
async function readPhotos() {
  if (reading) return;
  reading = true;
  for (;;) {
    const [first, last] = sight();
    const missing = ids.slice(first, last).filter(id => !photos.has(id) || !asked.has(id));
    if (!missing.length) break;
    try {
      await describe(missing);
    } catch {
      break;
    }
  }
  reading = false;
  if (large.open) showLarge();
}

async function describe(list) {
  const answer = await ask("api/photos", { ids: list });
  const waiting = waitingIds();
  for (const photo of answer.photos) {
    asked.add(photo.id);
    if (!waiting.has(photo.id) || !photos.has(photo.id)) photos.set(photo.id, photo);
    drawCell(photo.id);
  }
}

// Moving and choosing

function moveTo(i, extend = false) {
  if (!ids.length) return;
  cursor = Math.max(0, Math.min(ids.length - 1, i));
  if (extend) chooseRange(anchor, cursor);
  else anchor = cursor;
  const top = Math.floor(cursor / columns) * rowHeight(), bottom = top + rowHeight() + GAP;
  if (top < grid.scrollTop) grid.scrollTop = top;
  else if (bottom > grid.scrollTop + grid.clientHeight) grid.scrollTop = bottom - grid.clientHeight + GAP;
  draw();
  if (large.open) showLarge();
}

function chooseRange(one, other) {
  chosen.clear();
  for (let i = Math.min(one, other); i <= Math.max(one, other); i++) chosen.add(ids[i]);
}

function targets() {
  if (large.open || !chosen.size) return ids.length ? [ids[cursor]] : [];
  return ids.filter(id => chosen.has(id));
}

// Labelling

function label(name, list = targets()) {
  if (!list.length) return;
  const first = place.get(list[0]);
  for (const id of list) {
    const photo = photos.get(id);
    if (!photo) continue;
    recount(photo.name, -1);
    recount(name, 1);
    photos.set(id, { ...photo, name, hint: undefined });
  }
  show();
  const leaves = !isHinted() && queue !== null
    ? id => !belongs({ ...photos.get(id), id, name }) : () => true;
  const gone = new Set(list.filter(leaves));
  chosen.clear();
  if (gone.size) setIds(ids.filter(id => !gone.has(id)));
  cursor = anchor = Math.max(0, Math.min(first + (gone.size ? 0 : 1), ids.length - 1));
  list.forEach(drawCell);
  layOut();
  moveTo(cursor);
  const shown = name === null ? text("no_class") : name === REMOVED ? text("removed") : name;
  say(text("labelled", { count: count(list.length), name: shown }));
  send({ label: { ids: list, name } });
}

// What the server will say, so that nobody has to wait for it
function recount(name, change) {
  if (name === null) state.queues.unsorted += change;
  else if (name === REMOVED) state.queues.removed += change;
  else classes = classes.map(one => one.name === name ? { ...one, count: one.count + change } : one);
}

async function accept() {
  const groups = new Map(), all = targets();
  // What is in sight is taken as it is shown, what is not may be unknown or old.
  const unseen = all.filter(id => !photos.has(id) || !asked.has(id) && !cells.has(id));
  try {
    if (unseen.length) await describe(unseen);
  } catch (error) {
    notice(error.message);
    return;
  }
  for (const id of all.filter(id => place.has(id))) {
    const offer = suggestion(photos.get(id) ?? {});
    if (offer) groups.set(offer, [...groups.get(offer) ?? [], id]);
  }
  if (!groups.size) say(text("no_guess"));
  for (const [name, list] of groups) label(name, list);
}

function skip() {
  const list = targets(), gone = new Set(list);
  if (!list.length) return;
  const first = place.get(list[0]);
  list.forEach(id => skipped.add(id));
  chosen.clear();
  setIds([...ids.filter(id => !gone.has(id)), ...list]);
  moveTo(first);
}

function takeBack(path) {
  send({ path, body: {}, done: async answer => {
    const before = version;
    await refresh();
    say(answer.changed ? text("taken_back", { count: count(answer.changed) }) : text("nothing"));
    if (version === before) return;
    const changed = state.changed.find(photo => place.has(photo.id));
    if (changed) moveTo(place.get(changed.id));
  } });
}

function say(message) {
  find("status").textContent = message;
}

// What stands beside the grid

function show() {
  if (!state) return;
  const labelled = classes.reduce((sum, one) => sum + one.count, 0), all = labelled + state.queues.unsorted;
  find("progress").textContent = text("progress", { labelled: count(labelled), all: count(all) });
  find("fill").style.width = `${all ? labelled / all * 100 : 0}%`;
  find("undo").disabled = find("large-undo").disabled = !state.undoable;
  find("redo").disabled = !state.redoable;
  showQueues();
  showClasses();
  showGain();
  find("queue-name").textContent = queueName(queue);
  const [head, more] = find("empty").children;
  head.textContent = text("empty");
  more.textContent = text(all === labelled ? "all_done" : "choose_queue");
}

function queueName(name) {
  if (name === null) return "";
  return name.startsWith(CLASS) ? name.slice(CLASS.length) : QUEUE_NAMES[name];
}

function showQueues() {
  const list = find("queues"), focused = document.activeElement?.dataset?.queue;
  list.replaceChildren();
  const always = ["unsorted"], names = Object.keys(QUEUE_NAMES);
  for (const name of names.filter(one => state.queues[one] || always.includes(one) || one === queue))
    addQueue(list, name, queueName(name), state.queues[name]);
  if (queue?.startsWith(CLASS)) addQueue(list, queue, queueName(queue), classes.find(one => CLASS + one.name === queue)?.count ?? 0);
  if (focused) [...list.querySelectorAll("button")].find(one => one.dataset.queue === focused)?.focus();
}

function addQueue(list, name, words, number) {
  const button = add(add(list, "li", ""), "button", "row");
  button.type = "button";
  button.dataset.queue = name;
  if (name === queue) button.setAttribute("aria-current", "true");
  add(button, "span", "name", words).dir = "auto";
  add(button, "span", "number", count(number));
  button.onclick = () => openQueue(name);
}

function showClasses() {
  const list = find("classes"), key = JSON.stringify(classes);
  if (list.dataset.key === key) return;
  list.dataset.key = key;
  const focused = document.activeElement?.dataset?.focus, top = list.scrollTop;
  list.replaceChildren();
  classes.forEach(({ name, count: number }, i) => {
    const item = add(list, "li", "class-row"), button = add(item, "button", "row class");
    button.type = "button";
    button.dataset.focus = `label ${name}`;
    button.onclick = () => { label(name); grid.focus({ preventScroll: true }); };
    if (KEYS[i]) {
      add(button, "kbd", "", KEYS[i]);
      button.setAttribute("aria-keyshortcuts", KEYS[i]);
    }
    add(button, "span", "name", name).dir = "auto";
    const rename = add(item, "button", "small-button", "✎"), look = add(item, "button", "small-button", count(number));
    rename.type = look.type = "button";
    rename.setAttribute("aria-label", text("rename", { name }));
    rename.title = text("rename", { name });
    rename.dataset.focus = `rename ${name}`;
    rename.onclick = () => askName(text("rename", { name }), name, text("merge_hint"),
      newName => send({ path: "api/rename", body: { name, new_name: newName }, done: async answer => {
        if (queue === CLASS + name) queue = CLASS + answer.name;
        await refresh();
        await readQueue(true);
      } }));
    look.setAttribute("aria-label", text("look", { name, count: count(number) }));
    look.title = text("look", { name, count: count(number) });
    look.dataset.focus = `look ${name}`;
    look.onclick = () => openQueue(CLASS + name);
  });
  list.scrollTop = top;
  if (focused) [...list.querySelectorAll("button")].find(one => one.dataset.focus === focused)?.focus();
}

function showGain() {
  const now = state.suggestions, estimate = now?.estimate;
  find("estimate").textContent = !estimate ? "" : text(estimate.half < estimate.accuracy ? "estimate_half" : "estimate", {
    now: percent(estimate.accuracy), low: percent(estimate.low), high: percent(estimate.high),
    half: percent(estimate.half), labels: count(estimate.labels) });
  find("working").textContent = !now ? "" : now.failed ? text("failed", { reason: now.failed })
    : now.done < now.total ? text("working", { done: count(now.done), total: count(now.total) }) : "";
}

function showChosen() {
  find("chosen").textContent = chosen.size ? text("chosen", { count: count(chosen.size), all: count(ids.length) })
    : text("photos", { count: count(ids.length) });
}

// Dialogs

function openLarge() {
  if (!ids.length) return;
  large.showModal();
  large.focus();  // not its first button, for which Space has another meaning
  showLarge();
}

function showLarge() {
  const id = ids[cursor], photo = photos.get(id), image = large.querySelector("img");
  const placeholder = large.querySelector(".placeholder"), address = `photo/${id}`;
  if (image.getAttribute("src") !== address) {
    image.hidden = false;
    placeholder.hidden = true;
    image.onerror = () => {
      image.hidden = true;
      placeholder.hidden = false;
      placeholder.textContent = text("no_picture");
    };
    image.src = address;
  }
  if (!photo) return;
  const offer = suggestion(photo);
  image.alt = baseName(photo.path);
  find("large-name").textContent = photo.name === null ? text("no_class") : photo.name === REMOVED ? text("removed") : photo.name;
  find("large-about").textContent = [photo.path, `${count(cursor + 1)} / ${count(ids.length)}`,
    photo.hint?.detail, offer && text("guess", { name: offer })].filter(Boolean).join(" · ");
  const list = find("large-classes");
  list.replaceChildren();
  classes.forEach(({ name }, i) => {
    const button = add(add(list, "li", ""), "button", name === offer ? "button suggested" : "button");
    button.type = "button";
    button.onclick = () => label(name);
    if (KEYS[i]) add(button, "kbd", "", KEYS[i]);
    add(button, "span", "", name).dir = "auto";
  });
}

function askName(title, value, hint, use) {
  const dialog = find("naming"), input = find("naming-name");
  find("naming-title").textContent = title;
  find("naming-hint").textContent = hint;
  input.value = value;
  dialog.returnValue = "";
  dialog.onclose = () => {
    const name = input.value.trim();
    grid.focus({ preventScroll: true });
    if (dialog.returnValue === "go" && name) use(name);
  };
  dialog.showModal();
  input.select();
}

function newClass() {
  const list = targets();  // of now: the answer may be late
  askName(text("new_class"), "", text("new_hint"), name => send({ path: "api/class", body: { name }, done: async answer => {
    await refresh();
    const current = ids[cursor];
    label(answer.name, list.filter(id => place.has(id)));
    if (!list.includes(current) && place.has(current)) moveTo(place.get(current));
  } }));
}

function findClass() {
  const dialog = find("choosing"), input = find("choosing-name"), list = find("choosing-list");
  const targetIds = targets();
  const showMatches = () => {
    const wanted = input.value.trim().toLowerCase();
    list.replaceChildren();
    classes.filter(({ name }) => name.toLowerCase().includes(wanted)).slice(0, 50).forEach(({ name }, i) => {
      const item = add(list, "li", "row", name);
      item.setAttribute("role", "option");
      item.setAttribute("aria-selected", i === 0);
      item.onclick = () => dialog.close(name);
    });
  };
  input.value = dialog.returnValue = "";
  input.oninput = showMatches;
  dialog.querySelector("form").onsubmit = event => {
    event.preventDefault();
    dialog.close(list.firstChild?.textContent ?? "");
  };
  dialog.onclose = () => {
    grid.focus({ preventScroll: true });
    if (dialog.returnValue) label(dialog.returnValue, targetIds.filter(id => place.has(id)));
  };
  showMatches();
  dialog.showModal();
}

// Keys

const COMMANDS = {
  "Enter": accept, ".": skip, "0": () => label(null), "Delete": () => label(REMOVED),
  "Backspace": () => label(REMOVED), "+": newClass, "/": findClass, "?": () => find("helping").showModal(),
};

const STEPS = {
  ArrowLeft: () => -1, ArrowRight: () => 1, ArrowUp: () => large.open ? -1 : -columns, ArrowDown: () => large.open ? 1 : columns,
  PageUp: () => -columns * Math.max(1, Math.floor(grid.clientHeight / rowHeight())),
  PageDown: () => columns * Math.max(1, Math.floor(grid.clientHeight / rowHeight())),
  Home: () => -ids.length, End: () => ids.length,
};

addEventListener("keydown", event => {
  const other = [...document.querySelectorAll("dialog[open]")].some(one => one !== large);
  if (other || event.isComposing || event.target.matches("input[type=text]")) return;
  const control = event.ctrlKey || event.metaKey, key = event.key;
  if (control && !event.altKey && (key === "z" || key === "Z" || key === "y")) {
    takeBack(event.shiftKey || key === "y" ? "api/redo" : "api/undo");
  } else if (control && key === "a") {
    chooseRange(0, ids.length - 1);
    draw();
  } else if (control && key === " ") {
    toggle(cursor);
  } else if (control || event.altKey) {
    return;
  } else if (event.target.matches("button, summary, input") && (key === "Enter" || key === " " || event.target.matches("input") && key in STEPS)) {
    return;  // they have their own use for it
  } else if (event.repeat && (key.length === 1 || key in COMMANDS)) {
    // A key that is held down is meant for one photo.
  } else if (key in STEPS) {
    moveTo(cursor + STEPS[key](), event.shiftKey && !large.open);
  } else if (key === " ") {
    large.open ? large.close() : openLarge();
  } else if (key === "Escape" && !large.open) {
    chosen.clear();
    draw();
  } else if (key in COMMANDS) {
    COMMANDS[key]();
  } else if (key.length === 1 && KEYS.indexOf(key.toLowerCase()) in classes) {
    label(classes[KEYS.indexOf(key.toLowerCase())].name);
  } else {
    return;
  }
  event.preventDefault();
});

// Mouse and fingers

function toggle(i) {
  const id = ids[i];
  chosen.has(id) ? chosen.delete(id) : chosen.add(id);
  cursor = anchor = i;
  draw();
}

function position(event) {
  const box = canvas.getBoundingClientRect();
  return [event.clientX - box.left, event.clientY - box.top];
}

function cellAt(element) {
  const cell = element.closest?.(".cell");
  return cell ? place.get(Number(cell.id.slice("photo-".length))) : undefined;
}

grid.onclick = event => {
  const i = cellAt(event.target);
  if (i === undefined || lasso.used) return;
  if (event.shiftKey) {
    chooseRange(anchor, i);
    cursor = i;
    draw();
  } else if (event.ctrlKey || event.metaKey || matchMedia("(pointer: coarse)").matches) {
    toggle(i);
  } else {
    chosen.clear();
    moveTo(i);
  }
};
grid.ondblclick = event => { if (cellAt(event.target) !== undefined) openLarge(); };

const lasso = { box: null, start: null, used: false, before: null };
grid.onpointerdown = event => {
  lasso.used = false;
  if (event.button || event.pointerType !== "mouse" || event.offsetX > grid.clientWidth) return;
  lasso.start = position(event);
  lasso.before = event.ctrlKey || event.metaKey ? [...chosen] : [];
};
addEventListener("pointermove", event => {
  if (!lasso.start) return;
  const [x, y] = position(event), [startX, startY] = lasso.start;
  if (!lasso.box && Math.hypot(x - startX, y - startY) < 6) return;
  lasso.used = true;
  lasso.box ??= Object.assign(add(canvas, "div", ""), { id: "lasso" });
  const left = Math.min(x, startX), top = Math.min(y, startY);
  const width = Math.abs(x - startX), height = Math.abs(y - startY);
  lasso.box.style.cssText = `left:${left}px;top:${top}px;width:${width}px;height:${height}px`;
  const box = grid.getBoundingClientRect();
  if (event.clientY > box.bottom - 24) grid.scrollTop += 24;
  if (event.clientY < box.top + 24) grid.scrollTop -= 24;
  chosen.clear();
  lasso.before.forEach(id => chosen.add(id));
  const step = cellWidth() + GAP, firstRow = Math.max(0, Math.floor(top / rowHeight()));
  for (let row = firstRow; row <= (top + height) / rowHeight(); row++) {
    for (let column = 0; column < columns; column++) {
      const i = row * columns + column, cellLeft = column * step;
      const inside = cellLeft < left + width && cellLeft + step - GAP > left
        && row * rowHeight() + rowHeight() - GAP > top;
      if (inside && i < ids.length) chosen.add(ids[i]);
    }
  }
  draw();
});
addEventListener("pointerup", () => {
  lasso.box?.remove();
  lasso.box = lasso.start = null;
});

find("undo").onclick = () => takeBack("api/undo");
find("large-undo").onclick = () => {
  takeBack("api/undo");
  large.focus();  // a button that is disabled hears no keys
};
find("redo").onclick = () => takeBack("api/redo");
find("help").onclick = COMMANDS["?"];
find("add").onclick = newClass;
find("none").onclick = () => label(null);
find("remove").onclick = () => label(REMOVED);
find("size").oninput = layOut;
grid.onscroll = draw;
new ResizeObserver(layOut).observe(grid);
large.onclose = () => grid.focus({ preventScroll: true });
for (const button of document.querySelectorAll("[data-close]"))
  button.onclick = () => button.closest("dialog").close();
for (const button of document.querySelectorAll("[data-move]"))
  button.onclick = () => moveTo(cursor + Number(button.dataset.move));
refresh().then(poll);
