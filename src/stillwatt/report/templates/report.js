"use strict";
(function () {
  const specs = JSON.parse(document.getElementById("figure-specs").textContent);

  function fail(place, error) {
    place.classList.add("failed");
    place.removeAttribute("role");
    place.textContent =
      "This figure could not be drawn (" + (error && error.message ? error.message : error) +
      "). Its numbers are in the table below.";
  }

  // One box for all figures. Names from outside reach it as text only, never as markup.
  const box = document.createElement("div");
  box.id = "vg-tooltip-element";
  document.body.appendChild(box);

  function row(key, value) {
    const line = document.createElement("tr");
    for (const [kind, text] of [["key", key], ["value", value]]) {
      const cell = document.createElement("td");
      cell.className = kind;
      cell.textContent = text;
      line.appendChild(cell);
    }
    return line;
  }

  function near(position, size, room) {
    const beside = position + 12;
    return Math.max(0, beside + size > room ? position - size - 12 : beside) + "px";
  }

  function tell(_handler, event, _item, value) {
    const isShown = value !== null && value !== undefined && value !== "";
    box.classList.toggle("visible", isShown);
    if (!isShown) { return; }
    if (typeof value === "object") {
      const table = document.createElement("table");
      for (const key of Object.keys(value)) { table.appendChild(row(key, String(value[key]))); }
      box.replaceChildren(table);
    } else {
      box.textContent = String(value);
    }
    box.style.left = near(event.clientX, box.offsetWidth, window.innerWidth);
    box.style.top = near(event.clientY, box.offsetHeight, window.innerHeight);
  }

  // Expressions are interpreted, not compiled: the page's policy lets nothing be made into code.
  function draw(place, spec) {
    const compiled = vegaLite.compile(spec).spec;
    const view = new vega.View(vega.parse(compiled, undefined, { ast: true }), {
      expr: vegaInterpreter.expressionInterpreter,
      renderer: "svg",
      logLevel: vega.Warn,
      tooltip: tell,
    });
    return view.initialize(place).hover().runAsync();
  }

  async function tryToDraw(place, spec) {
    try {
      await draw(place, spec);
    } catch (error) {
      fail(place, error);
    }
  }

  const isLoaded = [typeof vega, typeof vegaLite, typeof vegaInterpreter].every((kind) => kind === "object");
  const drawn = [];
  for (const place of document.querySelectorAll("[data-figure]")) {
    const spec = specs[place.dataset.figure];
    if (!spec) {
      fail(place, "no drawing was made");
    } else if (!isLoaded) {
      fail(place, "the drawing runtime did not load");
    } else {
      drawn.push(tryToDraw(place, spec));
    }
  }
  Promise.all(drawn).then(function () { document.documentElement.dataset.drawn = "yes"; });

  // Data of very many labels are packed, so that the page stays light.
  const held = document.getElementById("report-data");
  const isPacked = held.type !== "application/json";
  async function heldText() {
    if (!isPacked) { return held.textContent; }
    const bytes = Uint8Array.from(atob(held.textContent), (letter) => letter.charCodeAt(0));
    return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).text();
  }

  const button = document.getElementById("download");
  button.hidden = isPacked && typeof DecompressionStream === "undefined";
  button.addEventListener("click", async function () {
    const text = JSON.stringify(JSON.parse(await heldText()), null, 1);
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([text + "\n"], { type: "application/json" }));
    link.download = button.dataset.file;
    link.click();
    URL.revokeObjectURL(link.href);
  });

  function openAll(open) {
    for (const details of document.querySelectorAll("details.for-print")) { details.open = open; }
  }
  window.addEventListener("beforeprint", function () { openAll(true); });
  window.addEventListener("afterprint", function () { openAll(false); });
})();
