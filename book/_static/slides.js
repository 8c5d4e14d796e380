// A deck of slides: reveal.js shows it once MathJax has drawn its formulas. S opens a speaker's window with the notes,
// N shows them beside the slide, D turns light into dark.
"use strict";

const query = new URLSearchParams(location.search);
const isSpeaker = query.has("speaker");
const printsNotes = query.has("notes");

/** Light or dark, as the reader chose on the pages of the book, else as the system is. */
function chosenTheme() {
  const mode = localStorage.getItem("mode");
  if (mode === "light" || mode === "dark") return mode;
  return matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
}

/** Turn light into dark or back, here and on the pages of the book. */
function turnTheme() {
  const theme = document.documentElement.dataset.theme === "dark" ? "light" : "dark";
  document.documentElement.dataset.theme = theme;
  for (const key of ["mode", "theme"]) localStorage.setItem(key, theme);
}

/** Show or hide the notes beside the slide. */
function turnNotes() {
  Reveal.configure({ showNotes: !Reveal.getConfig().showNotes });
  Reveal.layout();
  drawNotes();
}

/** Draw the formulas of the notes that are shown, and begin them, for a speaker, with the time and with what is next. */
async function drawNotes() {
  await new Promise(requestAnimationFrame); // reveal.js writes them after it has told of the slide
  const notes = document.querySelector(".reveal.show-notes > .speaker-notes");
  if (!notes) return;
  notes.scrollTop = 0;
  if (isSpeaker) notes.prepend(clock());
  MathJax.typesetPromise([notes]);
}

const opened = Date.now();

/** A line with the minutes since the window was opened, and the title of the next slide. */
function clock() {
  const line = document.createElement("p");
  line.className = "label";
  const next = Reveal.getSlide(Reveal.getIndices().h + 1)?.querySelector("h2")?.textContent;
  line.innerHTML = "<time></time> ";
  if (next) line.append(`· ${document.querySelector(".reveal").dataset.next}: ${next}`);
  tick(line.firstChild);
  return line;
}

/** Write the minutes and seconds that have passed into an element. */
function tick(time = document.querySelector(".speaker-notes time")) {
  const seconds = Math.floor((Date.now() - opened) / 1000);
  if (time) time.textContent = `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, "0")}`;
}

let others = []; // the windows that show the same slide

/** Open the window with the notes, which keeps pace with this one. */
function openSpeaker() {
  const speaker = open(`?speaker${location.hash}`, "speaker", "width=1400,height=800");
  if (speaker) others = [speaker];
}

/** Keep this window and `others` on the same slide. */
function keepPace() {
  let following = false;
  const tell = () => {
    if (following) return;
    for (const other of others) other.postMessage({ slides: Reveal.getState() }, "*");
  };
  for (const event of ["slidechanged", "fragmentshown", "fragmenthidden"]) Reveal.on(event, tell);
  addEventListener("message", ({ source, data }) => {
    if (!others.includes(source) || !data.slides) return;
    const { indexh, indexv, indexf } = data.slides;
    following = true;
    Reveal.slide(indexh, indexv, indexf);
    following = false;
  });
}

/** Make the letters of a slide smaller, and a formula as narrow as the slide, where they would not fit. */
function fit(body) {
  for (const formula of body.querySelectorAll("mjx-container[display=true]")) {
    const wide = formula.firstElementChild.offsetWidth / formula.parentElement.clientWidth;
    if (wide > 1) formula.style.fontSize = `${parseFloat(getComputedStyle(formula).fontSize) / wide}px`;
  }
  const smallest = 22;
  let size = parseFloat(getComputedStyle(body).fontSize);
  const boxes = [body, ...body.querySelectorAll("pre")];
  const spills = ({ scrollHeight, clientHeight, scrollWidth, clientWidth }) =>
    scrollHeight > clientHeight || scrollWidth > clientWidth;
  while (boxes.some(spills) && size > smallest) body.style.fontSize = `${(size -= 0.5)}px`;
}

/** Let all that follows a question wait for the same step as its answer. */
function holdBack(answer) {
  for (let part = answer; part; part = part.nextElementSibling) {
    part.classList.add("fragment");
    part.dataset.fragmentIndex = 0;
  }
}

/** Start the deck. */
async function start() {
  const reveal = document.querySelector(".reveal");
  await document.fonts.ready;
  document.querySelectorAll(".slide .body").forEach(fit);
  document.querySelectorAll(".slide .answer").forEach(holdBack);
  await Reveal.initialize({
    width: 1280,
    height: 720,
    margin: 0,
    center: false,
    hash: true,
    slideNumber: "c/t",
    transition: "none",
    help: false,
    pdfSeparateFragments: false,
    showNotes: printsNotes ? "separate-page" : isSpeaker,
    keyboard: { 68: turnTheme, 78: turnNotes, 83: openSpeaker },
  });
  for (const [way, label] of [["left", "previous"], ["right", "next"]])
    reveal.querySelector(`.navigate-${way}`).setAttribute("aria-label", reveal.dataset[label]);
  reveal.removeAttribute("role"); // no application: a page with a main part, to be read like any other
  if (isSpeaker && opener) others = [opener];
  if (isSpeaker) setInterval(() => tick(), 1000);
  keepPace();
  Reveal.on("slidechanged", drawNotes);
  drawNotes();
  document.documentElement.dataset.ready = "";
}

document.documentElement.dataset.theme = chosenTheme();
window.MathJax = {
  options: {
    ignoreHtmlClass: printsNotes ? "nothing" : "notes",
    processHtmlClass: "math|speaker-notes",
  },
  chtml: { mtextInheritFont: true, matchFontHeight: false, scale: 1.075 }, // as on the pages of the book (editions.py)
  startup: {
    ready() {
      MathJax.startup.defaultReady();
      MathJax.startup.promise.then(start);
    },
  },
};
