(() => {
  "use strict";
  const config = { responsive: true, displaylogo: false };
  const places = [...document.querySelectorAll(".plot")];

  function colors() {
    const style = getComputedStyle(document.documentElement);
    const get = (name) => style.getPropertyValue(name).trim();
    return { text: get("--text"), grid: get("--line"), ground: get("--ground") };
  }

  function themed(layout) {
    const { text, grid, ground } = colors();
    const changes = {
      "font.color": text,
      "font.family": "system-ui, sans-serif",
      "font.size": 12,
      "paper_bgcolor": "rgba(0,0,0,0)",
      "plot_bgcolor": "rgba(0,0,0,0)",
      "hoverlabel.bgcolor": ground,
      "hoverlabel.font.color": text,
      "modebar.bgcolor": "rgba(0,0,0,0)",
      "modebar.color": text,
    };
    for (const axis of Object.keys(layout).filter((key) => /^[xy]axis/.test(key))) {
      changes[`${axis}.gridcolor`] = grid;
      changes[`${axis}.linecolor`] = grid;
    }
    return changes;
  }

  async function draw(place) {
    const { data, layout } = JSON.parse(document.getElementById(`${place.id}-data`).textContent);
    await Plotly.newPlot(place, data, layout, config);
    await Plotly.relayout(place, themed(layout));
  }

  Promise.all(places.map(draw)).then(() => {
    document.documentElement.dataset.plots = places.length;
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () =>
    places.forEach((place) => Plotly.relayout(place, themed(place.layout)))
  );
})();
