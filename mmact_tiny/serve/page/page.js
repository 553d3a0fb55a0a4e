"use strict";
const MAX_RECORD_SECONDS = 10;
const element = (id) => document.getElementById(id);
const seconds = (value) => `${value.toFixed(value < 10 ? 2 : 1)} s`;
let limits = { max_bytes: Infinity };
let current = null; // the request under way
let recording = null; // { recorder, stream, timer }

function say(text, bad = false) {
  element("status").textContent = text;
  element("status").classList.toggle("bad", bad);
}

function create(tag, className, text) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  if (text !== undefined) node.textContent = text;
  return node;
}

function setBusy(busy) {
  for (const node of document.querySelectorAll("#examples button, #file")) node.disabled = busy;
  element("record").disabled = busy || !canRecord();
  element("cancel").hidden = !busy;
  element("result").setAttribute("aria-busy", String(busy));
  if (!busy) element("upload").hidden = true;
}

function show(video, isLive = false) {
  const preview = element("preview");
  if (preview.src.startsWith("blob:")) URL.revokeObjectURL(preview.src);
  preview.srcObject = isLive ? video : null;
  if (isLive) preview.play();
  else preview.src = typeof video === "string" ? video : URL.createObjectURL(video);
  preview.controls = !isLive;
  preview.hidden = false;
}

function recognize(name, video, query = "") {
  const request = new XMLHttpRequest();
  const start = performance.now();
  let read = 0;
  current = request;
  element("result").hidden = true;
  setBusy(true);
  say(video ? `Sending ${name} …` : `Recognizing ${name} …`);
  element("status").scrollIntoView({ block: "nearest" });

  const take = () => { // the lines of the answer that have come since the last time
    const end = request.responseText.lastIndexOf("\n") + 1;
    const lines = request.responseText.slice(read, end).split("\n").filter(Boolean);
    read = end;
    for (const line of lines) {
      const event = JSON.parse(line);
      if (event.event === "waiting") {
        say(`Waiting: ${event.ahead} ${event.ahead === 1 ? "video" : "videos"} ahead of this one.`);
      } else if (event.event === "recognizing") say(`Recognizing ${name} …`);
      else if (event.error) say(event.error, true);
      else if (event.predictions) draw(name, event, performance.now() - start);
    }
  };
  request.upload.onprogress = (event) => {
    element("upload").hidden = !video || event.loaded === event.total;
    element("upload").value = event.total ? event.loaded / event.total : 0;
  };
  request.onprogress = take;
  request.onload = take;
  request.onerror = () => say("The connection to the server was lost. Is it still running?", true);
  request.onabort = () => say("Cancelled.");
  request.onloadend = () => { current = null; setBusy(false); };
  request.open("POST", `/api/recognize?pictures=1${query}`);
  request.setRequestHeader("Accept", "application/x-ndjson");
  if (video) request.setRequestHeader("Content-Type", "application/octet-stream");
  request.send(video);
}

const bars = (predictions) => predictions.map(({ label, score }) => {
  const row = create("li");
  const track = create("div", "track");
  const fill = create("div", "fill");
  fill.style.width = `${100 * score}%`;
  track.append(fill);
  row.append(create("span", "label", label),
    create("span", "score", `${(100 * score).toFixed(1)} %`), track);
  return row;
});

async function followLive() {
  const picture = element("live-picture");
  const name = element("live-name");
  let state = {};
  element("live").hidden = false;
  try {
    state = await (await fetch("/api/live")).json();
  } catch {
    state.error = "The server does not answer.";
  }
  if (state.source) name.textContent = `Live: ${state.source}`;
  const now = state.events?.join(", ") || "nothing";
  element("live-state").textContent = state.error || (state.has_ended ? "It has ended."
    : state.lost ? `Lost: ${state.lost}. It is tried again.`
      : `${state.seconds.toFixed(1)} s: ${now}. Answered within ${seconds(state.delay)}.`);
  element("live-bars").replaceChildren(...bars(state.predictions ?? []));
  if (!state.lost && !state.error) picture.src = `/api/live/picture?${state.seconds}`;
  if (!state.has_ended) setTimeout(followLive, 500);
}

function draw(name, answer, total) {
  say(`${name}: ${answer.predictions[0]?.label ?? "no label reaches its threshold"}`);
  element("bars").replaceChildren(...bars(answer.predictions));
  const pictures = answer.pictures || [];
  const part = pictures.length < answer.frames ? `, ${pictures.length} of them here` : "";
  const crops = answer.views / answer.frames;
  const crop = crops > 1 ? `; of each, ${crops} crops were used, and the middle one is shown` : "";
  element("frames-note").textContent =
    `${answer.frames} ${answer.frames === 1 ? "frame" : "frames"} of ` +
    `${answer.video_seconds.toFixed(1)} seconds${part}, as the network saw them${crop}.`;
  element("frames").replaceChildren(...pictures.map((source, index) => {
    const image = create("img");
    image.src = source;
    image.alt = `Frame ${index + 1} of ${pictures.length}`;
    return image;
  }));
  element("frames").hidden = pictures.length === 0;
  const { receiving, waiting, reading, computing } = answer.seconds;
  const times = { Sending: receiving, "Waiting in line": waiting, "Reading the video": reading,
    Computing: computing, "In all": total / 1000 };
  element("times").replaceChildren(...Object.entries(times).flatMap(
    ([what, value]) => [create("dt", "", what), create("dd", "", seconds(value))]));
  element("protocol").textContent = `Protocol ${answer.protocol}.`;
  element("result").hidden = false;
  element("bars").scrollIntoView({ block: "nearest" });
}

function give(file) {
  if (current || recording || !file) return;
  show(file);
  if (file.size > limits.max_bytes) {
    element("result").hidden = true;
    say(`${file.name} is larger than ${limits.max_bytes / 1e6} MB.`, true);
  } else recognize(file.name || "The recording", file);
}

const canRecord = () => Boolean(navigator.mediaDevices && window.MediaRecorder);

async function record() {
  if (recording) return recording.recorder.stop();
  let stream;
  try {
    stream = await navigator.mediaDevices.getUserMedia({ video: true });
  } catch (error) {
    return say(error.name === "NotFoundError" ? "There is no camera."
      : "The browser does not let this page use the camera.", true);
  }
  const chunks = [];
  const recorder = new MediaRecorder(stream);
  const end = Date.now() + MAX_RECORD_SECONDS * 1000;
  const count = () => {
    const left = Math.ceil((end - Date.now()) / 1000);
    element("record").textContent = `Stop (${Math.max(left, 0)} s left)`;
    if (left <= 0) recorder.stop();
  };
  recorder.ondataavailable = (event) => chunks.push(event.data);
  recorder.onstop = () => {
    clearInterval(recording.timer);
    for (const track of stream.getTracks()) track.stop();
    recording = null;
    element("record").textContent = "Record with the camera";
    element("record").classList.remove("on");
    setBusy(false);
    give(new Blob(chunks, { type: recorder.mimeType }));
  };
  show(stream, true);
  setBusy(true);
  element("record").disabled = false;
  element("cancel").hidden = true;
  element("record").classList.add("on");
  recorder.start();
  recording = { recorder, timer: setInterval(count, 250) };
  count();
  say("Recording.");
}

function showExamples(names) {
  element("examples").replaceChildren(...names.map((name, number) => {
    const item = create("li");
    const button = create("button");
    const image = create("img");
    button.type = "button";
    image.src = `/examples/${number}/poster`;
    image.alt = "";
    button.append(image, create("span", "", name));
    button.onclick = () => {
      show(`/examples/${number}`);
      recognize(`Example “${name}”`, null, `&example=${number}`);
    };
    item.append(button);
    return item;
  }));
  element("examples-box").hidden = names.length === 0;
}

async function start() {
  const drop = element("drop");
  element("preview").onerror = () => { element("preview").hidden = true; };
  element("file").onchange = (event) => { give(event.target.files[0]); event.target.value = ""; };
  element("cancel").onclick = () => current && current.abort();
  element("record").onclick = record;
  element("record").disabled = !canRecord();
  if (!canRecord()) {
    element("camera-note").textContent = window.isSecureContext
      ? "This browser cannot record." : "Browsers allow it on localhost and over https only.";
  }
  for (const kind of ["dragover", "dragleave", "drop"]) {
    document.addEventListener(kind, (event) => {
      event.preventDefault();
      drop.classList.toggle("over", kind === "dragover");
      if (kind === "drop") give(event.dataTransfer.files[0]);
    });
  }
  element("curl").textContent = `curl -F video=@clip.mp4 ${location.origin}/api/recognize`;
  try {
    limits = await (await fetch("/api/health")).json();
  } catch {
    return say("The server does not answer. Is it still running?", true);
  }
  element("model").textContent =
    `${limits.checkpoint} knows ${limits.classes.length} actions. Give it a short video.`;
  element("limits").textContent =
    `up to ${limits.max_bytes / 1e6} MB and ${limits.max_seconds} seconds`;
  showExamples(limits.examples);
  if (limits.is_live) followLive();
}

start();
