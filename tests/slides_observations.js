// What tests/test_slides.py asks of a deck that is ready. All slides are laid out at once, on the stage of 1280 by 720.
() => {
  const all = (selector, take, within = document) => [...within.querySelectorAll(selector)].map(take);
  for (const section of document.querySelectorAll(".slides > section")) section.style.display = "block";
  for (const part of document.querySelectorAll(".fragment")) part.classList.add("visible");

  /** The elements of a slide that reach beyond the room for them. */
  const spilt = (slide) => {
    const { left, top } = slide.getBoundingClientRect();
    const parts = all("h1, h2, .body, .body *:not(mjx-container *)", (part) => [part, part.getBoundingClientRect()], slide);
    return parts
      .filter(([part, box]) => box.bottom > top + 673 || box.right > left + 1201 || part.scrollWidth > part.clientWidth + 1 && part.matches("pre, .math"))
      .map(([part]) => part.outerHTML.slice(0, 100));
  };

  return {
    lang: document.documentElement.lang,
    title: document.title,
    slides: all(".slide", (slide) => ({
      title: slide.querySelector("h1, h2").textContent.trim(),
      spilt: spilt(slide),
      size: all(".body", (body) => parseFloat(getComputedStyle(body).fontSize), slide)[0] ?? null,
      figures: all("figure", (figure) => figure.querySelector("figcaption strong").textContent.match(/\d+\.\d+/)[0], slide),
      heights: all("img", (image) => image.getBoundingClientRect().height, slide),
      code: all("pre.highlight", (code) => code.textContent.trimEnd(), slide),
      questions: all(".ask", (question) => question.nextElementSibling.matches(".answer.fragment"), slide),
    })),
    notes: all("aside.notes", (notes) => notes.textContent.trim().length),
    images: all("img", (image) => [image.alt, image.naturalWidth, image.src.split("/").at(-1).split(".")[0]]),
    formulas: all(".slide .math", (formula) => formula.querySelectorAll("mjx-container").length),
    errors: all("mjx-merror", (error) => error.textContent),
    links: all(".slides a[href], link[rel=stylesheet], link[rel=icon]", (link) => link.getAttribute("href")),
  };
}
