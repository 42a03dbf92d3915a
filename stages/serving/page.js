"use strict";

const AT_ONCE = 2;
const input = document.querySelector("#files");
const zone = document.querySelector(".drop");
const cards = document.querySelector(".cards");
const bar = document.querySelector("progress");
const news = document.querySelector(".news");
const [waiting, answered] = document.querySelectorAll("template");
const queue = [];
let busy = 0, done = 0, failed = 0, all = 0;

const percent = (share) =>
  share > 0.9995 ? "> 99.9 %" : share < 0.0005 ? "< 0.1 %" : `${(100 * share).toFixed(1)} %`;

async function ask(path, file) {
  if (file.size > input.dataset.bytes) throw new Error(input.dataset.tooLarge);
  const request = {
    method: "POST",
    headers: { "Content-Type": "application/octet-stream" },
    body: file,
  };
  const response = await fetch(path, request).catch(() => {
    throw new Error("the browser can’t read it (is it a folder?), or the program behind this page has ended");
  });
  const busyFor = response.headers.get("Retry-After");
  if (busyFor) {
    await new Promise((go) => setTimeout(go, 1000 * busyFor));
    return ask(path, file);
  }
  const answer = await response.json();
  if (!response.ok) throw new Error(answer.error);
  return answer;
}

async function show(card, name, answer) {
  const part = document.importNode(answered.content, true);
  const find = (selector) => part.querySelector(selector);
  const picture = find(".picture"), heat = find(".heat"), slider = find("input");
  const view = find(".view");
  picture.src = answer.picture;
  picture.alt = name;
  heat.src = answer.heat;
  heat.alt = `Heat map of what speaks for ${answer.class}`;
  slider.oninput = () => { heat.style.opacity = slider.value / 100; };
  slider.oninput();
  find(".class").textContent = answer.class;
  const cases = `${Math.round(100 * answer.coverage)} of 100 cases`;
  find(".set").textContent = answer.set.length > 1
    ? `One of: ${answer.set.join(", ")}. In ${cases} the true class is among those named, if the image is like those of the training.`
    : `${answer.set[0]} alone. In ${cases} the true class is the one named or among those named, if the image is like those of the training.`;
  for (const [label, share] of Object.entries(answer.probabilities)) {
    const row = find("tbody").insertRow();
    const head = document.createElement("th");
    head.scope = "row";
    head.textContent = label;
    const length = document.createElement("span");
    length.style.inlineSize = `${100 * share}%`;
    row.append(head);
    row.insertCell().append(length);
    row.insertCell().textContent = percent(share);
    row.classList.toggle("highest", label === answer.class);
  }
  if (answer.refused) {
    const hidden = [".heat", "figcaption", ".class", ".set", "table"].map(find);
    const show = (shown) => hidden.forEach((each) => { each.hidden = !shown; });
    find(".refusal").hidden = false;
    find("button").onclick = ({ target }) => {
      show(true);
      target.remove();
      slider.focus(); // which a keyboard has lost with the button
    };
    show(false);
    card.classList.add("meaningless");
  }
  await picture.decode();
  view.style.setProperty("--ratio", picture.naturalWidth / picture.naturalHeight);
  card.append(part);
}

async function handle({ card, file }) {
  const state = card.querySelector(".state");
  let result, missing = "No answer";
  try {
    state.textContent = "Asking the network …";
    const answer = await ask("judge", file);
    await show(card, file.name, answer);
    result = answer.refused
      ? "this does not look like a chest radiograph"
      : `${answer.class}, ${percent(answer.probabilities[answer.class])}`;
    card.querySelector(".answer").append(state);
    missing = "Copies of it can’t be looked for";
    state.textContent = "Looking for a copy of it among the training images …";
    const { copies } = await ask("copies", file);
    state.textContent = "No copy of it is among the training images.";
    if (copies.length) {
      card.querySelector(".copies span").textContent = copies.join(", ");
      card.querySelector(".copies").hidden = false;
      state.remove();
      result += "; a copy of it is among the training images";
    }
  } catch (error) {
    failed += 1;
    card.classList.add("failed");
    state.textContent = `${missing}: ${error.message}.`;
    result = state.textContent;
  }
  card.removeAttribute("aria-busy");
  done += 1;
  bar.value = done;
  news.textContent = all > 1
    ? `${done} of ${all} images done` + (failed ? `, ${failed} without an answer` : "")
    : `${file.name}: ${result}`;
}

async function work() {
  busy += 1;
  while (queue.length) await handle(queue.shift());
  busy -= 1;
  if (!busy) {
    bar.hidden = true;
    done = failed = all = 0;
  }
}

function take(files) {
  if (!files.length) news.textContent = "There is no file in that.";
  const jobs = Array.from(files, (file) => {
    const card = waiting.content.firstElementChild.cloneNode(true);
    card.querySelector("h2").textContent = file.name;
    return { card, file };
  });
  cards.prepend(...jobs.map(({ card }) => card));
  queue.push(...jobs);
  all += jobs.length;
  bar.max = all;
  bar.hidden = all < 2;
  while (busy < AT_ONCE && queue.length) work();
}

input.addEventListener("change", () => {
  take(input.files);
  input.value = ""; // so that the same file can be chosen again
});
addEventListener("paste", (event) => take(event.clipboardData.files));
addEventListener("dragover", (event) => {
  event.preventDefault();
  zone.classList.add("over");
});
addEventListener("dragleave", (event) => {
  if (!event.relatedTarget) zone.classList.remove("over"); // it left the window
});
addEventListener("drop", (event) => {
  event.preventDefault();
  zone.classList.remove("over");
  take(event.dataTransfer.files);
});
