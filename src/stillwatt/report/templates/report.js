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

  const options = { actions: false, renderer: "svg", ast: true, tooltip: { theme: "stillwatt" } };
  const drawn = [];
  for (const place of document.querySelectorAll("[data-figure]")) {
    const spec = specs[place.dataset.figure];
    if (!spec) {
      fail(place, "no drawing was made");
    } else if (typeof vegaEmbed !== "function") {
      fail(place, "the drawing runtime did not load");
    } else {
      drawn.push(vegaEmbed(place, spec, options).catch(function (error) { fail(place, error); }));
    }
  }
  Promise.all(drawn).then(function () { document.documentElement.dataset.drawn = "yes"; });

  const button = document.getElementById("download");
  button.hidden = false;
  button.addEventListener("click", function () {
    const text = JSON.stringify(JSON.parse(document.getElementById("report-data").textContent), null, 1);
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
