"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const $ = (selector, root = document) => root.querySelector(selector);
const $$ = (selector, root = document) => [...root.querySelectorAll(selector)];

async function unpacked(base64) {
  const bytes = Uint8Array.from(atob(base64), (c) => c.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(stream).arrayBuffer();
}

// The transform: an affine matrix and displacements on a regular grid, interpolated linearly.
const transform = {
  field: null,
  async load() {
    const packed = data.transform.field;
    if (!packed || this.field) return;
    const steps = new Int16Array(await unpacked(packed)); // differences along the last axis
    const row = data.transform.shape.at(-1);
    for (let k = 0; k < steps.length; k++) if (k % row) steps[k] += steps[k - 1];
    this.field = steps;
  },
  forward(point) {
    const { matrix, shape, low_mm, step_mm, unit_mm } = data.transform;
    const d = point.length;
    const out = point.map((_, row) => point.reduce((sum, x, k) => sum + matrix[row][k] * x, matrix[row][d]));
    if (!this.field) return out;
    const cell = [], part = [], nodes = this.field.length / d;
    for (let a = 0; a < d; a++) {
      const x = Math.min(Math.max((point[a] - low_mm[a]) / step_mm[a], 0), shape[a] - 1);
      cell.push(Math.min(Math.floor(x), shape[a] - 2));
      part.push(x - cell[a]);
    }
    for (let corner = 0; corner < 1 << d; corner++) {
      let weight = 1, index = 0;
      for (let a = 0; a < d; a++) {
        const up = (corner >> a) & 1;
        weight *= up ? part[a] : 1 - part[a];
        index = index * shape[a] + cell[a] + up;
      }
      for (let c = 0; c < d; c++) out[c] += weight * unit_mm * this.field[c * nodes + index];
    }
    return out;
  },
};
const mm = (point) => point.map((x) => x.toFixed(data.decimals)).join(", ");

// Alignment: a choice of mode, before or after, and what lies over the images.
const alignment = $("#alignment");
function choose(name, value) {
  alignment.dataset[name] = value;
}
for (const input of $$("input[name=when], input[name=mode]", alignment)) {
  input.addEventListener("change", () => choose(input.name, input.value));
  if (input.checked) choose(input.name, input.value);
}
for (const input of $$(".checks input", alignment)) {
  const show = () => alignment.classList.toggle(input.value, input.checked);
  input.addEventListener("change", show);
  show();
}
const split = $("#split");
const setSplit = () => alignment.style.setProperty("--split", split.value + "%");
split.addEventListener("input", setSplit);
setSplit();
$("#beat").addEventListener("click", () => {
  alignment.classList.add("still");
  alignment.classList.toggle("first");
});
$("#run").addEventListener("click", () => alignment.classList.remove("still", "first"));
$$(".stage", alignment).forEach((stage, n) => {
  const plane = data.planes[n];
  const locate = (event) => {
    const box = stage.getBoundingClientRect();
    const share = [(event.clientX - box.left) / box.width, 1 - (event.clientY - box.top) / box.height];
    const point = [...plane.at_mm];
    plane.axes.forEach((axis, k) => (point[axis] = plane.low_mm[k] + share[k] * plane.size_mm[k]));
    const moving = alignment.dataset.when === "before" ? point : transform.forward(point);
    $("#readout").textContent = `fixed ${mm(point)} mm, moving ${mm(moving)} mm`;
    return share[0];
  };
  const drag = (event) => {
    const across = locate(event);
    if (event.buttons && alignment.dataset.mode === "slider") {
      split.value = 100 * across;
      setSplit();
    }
  };
  stage.addEventListener("pointermove", drag);
  stage.addEventListener("pointerdown", drag);
});

const deformation = $("#deformation");
if (deformation) {
  for (const input of $$("input[name=show]", deformation)) {
    input.addEventListener("change", () => (deformation.dataset.show = input.value));
    if (input.checked) deformation.dataset.show = input.value;
  }
}

for (const button of $$("button.copy")) {
  button.addEventListener("click", async () => {
    const text = $("pre", button.closest(".command")).textContent;
    try {
      await navigator.clipboard.writeText(text);
    } catch {
      const area = document.createElement("textarea");
      area.value = text;
      document.body.append(area);
      area.select();
      document.execCommand("copy");
      area.remove();
    }
    button.textContent = "Copied";
    setTimeout(() => (button.textContent = "Copy"), 1500);
  });
}
transform.load();
