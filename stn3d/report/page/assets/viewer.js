"use strict";
// The interactive view: NiiVue twice, fixed below and moved above, with one crosshair.
(() => {
  const frame = $("#viewer");
  if (!frame) return;
  const wait = $(".wait", frame);
  const canvases = [$("canvas.bottom", frame), $("canvas.top", frame)];
  const state = { when: "after", views: [] };
  window.stn3dViewer = state;

  const script = (source) =>
    new Promise((resolve, reject) => {
      const tag = document.createElement("script");
      tag.src = URL.createObjectURL(new Blob([source], { type: "text/javascript" }));
      tag.onload = resolve;
      tag.onerror = reject;
      document.head.append(tag);
    });

  async function start() {
    if (!document.createElement("canvas").getContext("webgl2")) {
      wait.textContent = "This browser offers no WebGL 2, which the interactive view needs.";
      return;
    }
    const texts = Object.fromEntries($$("script[type='text/plain']").map((tag) => [tag.id, tag.textContent]));
    await script(await unpacked(texts.niivue));
    const { Niivue, NVImage } = window.niivue;
    const volume = async (name, opacity) => {
      const image = await NVImage.loadFromUrl({ url: await unpacked(texts[name]), name: name + ".nii" });
      image.opacity = opacity;
      return image;
    };
    const options = {
      logLevel: "error", dragAndDropEnabled: false, isResizeCanvas: true, show3Dcrosshair: true,
      crosshairColor: [0.27, 0.77, 0.73, 0.9], crosshairWidth: 0.4, fontColor: [0.8, 0.84, 0.88, 1],
      backColor: [0, 0, 0, 1], loadingText: "", multiplanarShowRender: 0, viewModeHotKey: "", clipPlaneHotKey: "",
      cycleClipPlaneHotKey: "", crosshairGap: 4, tileMargin: 4,
    };
    for (const canvas of canvases) {
      const view = new Niivue(options);
      await view.attachToCanvas(canvas);
      state.views.push(view);
    }
    const [below, above] = state.views;
    below.addVolume(await volume("fixed", 1));
    above.addVolume(await volume("fixed", 0));
    above.addVolume(await volume("before", 0));
    above.addVolume(await volume("after", 1));
    if (data.viewer.expected) await addExpected(volume, state.views);
    state.show = (when) => {
      state.when = when;
      above.setOpacity(1, when === "before" ? 1 : 0);
      above.setOpacity(2, when === "after" ? 1 : 0);
      report(below.scene.crosshairPos);
    };
    state.views.forEach((view, n) => {
      view.onLocationChange = (place) => {
        const other = state.views[1 - n];
        other.scene.crosshairPos = [...view.scene.crosshairPos];
        other.drawScene();
        report(view.scene.crosshairPos);
      };
    });
    state.show($("input[name=viewer-when]:checked").value);
    frame.dataset.ready = "yes";
    wait.remove();
  }

  // The expected error over both images; where it is 0, nothing is known, and nothing is shown.
  async function addExpected(volume, views) {
    const { colours, step } = data.viewer.expected;
    const nodes = [colours[0], ...colours];
    const part = (channel) => nodes.map((colour) => colour[channel]);
    const map = { R: part(0), G: part(1), B: part(2), A: nodes.map((_, n) => (n ? 255 : 0)), I: nodes.map((_, n) => (n > 1 ? step * (n - 1) : n)) };
    const input = $("#viewer-expected");
    const layers = [];
    for (const view of views) {
      view.addColormap("expected", map);
      const layer = await volume("expected", 0);
      layer.colormap = "expected";
      view.addVolume(layer);
      layers.push([view, view.volumes.length - 1]);
    }
    input.addEventListener("input", () => {
      for (const [view, number] of layers) view.setOpacity(number, input.value / 100);
    });
    state.expected = (point) => {
      const [view, number] = layers[0];
      return view.volumes[number].getValue(...view.volumes[number].mm2vox(point)) * data.viewer.expected.unit_mm;
    };
  }

  function report(fraction) {
    const view = state.views[0];
    const fixed = [...view.frac2mm(fraction)].slice(0, 3);
    const moving = state.when === "before" ? fixed : transform.forward(fixed);
    ["x", "y", "z"].forEach((axis, a) => {
      const input = $(`#at-${axis}`);
      if (document.activeElement !== input) input.value = fixed[a].toFixed(data.decimals);
    });
    state.fixed = fixed;
    state.moving = moving;
    $("#moving-at").textContent = mm(moving);
    if (state.expected) {
      const error = state.expected(fixed);
      $("#expected-at").textContent = error > 0 ? `${error.toPrecision(2)} mm` : "not known";
    }
  }

  function go(point) {
    const fraction = state.views[0].mm2frac(point);
    for (const view of state.views) {
      view.scene.crosshairPos = [...fraction].map((x) => Math.min(Math.max(x, 0), 1));
      view.drawScene();
    }
    report(state.views[0].scene.crosshairPos);
  }
  state.go = go;

  for (const axis of ["x", "y", "z"]) {
    $(`#at-${axis}`).addEventListener("change", () =>
      go(["x", "y", "z"].map((a) => Number.parseFloat($(`#at-${a}`).value) || 0)),
    );
  }
  for (const name of ["split", "opacity"]) {
    const input = $(`#viewer-${name}`);
    const set = () => frame.style.setProperty(`--${name}`, name === "split" ? `${input.value}%` : input.value / 100);
    input.addEventListener("input", set);
    set();
  }
  for (const input of $$("input[name=viewer-when]")) {
    input.addEventListener("change", () => state.show && state.show(input.value));
  }
  const steps = { ArrowLeft: [-1, 0, 0], ArrowRight: [1, 0, 0], ArrowUp: [0, 1, 0], ArrowDown: [0, -1, 0], PageUp: [0, 0, 1], PageDown: [0, 0, -1] };
  frame.addEventListener("keydown", (event) => {
    const step = steps[event.key];
    if (!step || !state.fixed) return;
    event.preventDefault();
    event.stopPropagation();
    go(state.fixed.map((x, a) => x + step[a] * data.viewer.spacing_mm[a]));
  }, true);

  const begin = () => transform.load().then(start).catch((error) => {
    wait.textContent = `The interactive view could not start: ${error.message || error}`;
    console.error(error);
  });
  new IntersectionObserver((entries, observer) => {
    if (entries.some((entry) => entry.isIntersecting)) {
      observer.disconnect();
      begin();
    }
  }, { rootMargin: "300px" }).observe(frame);
})();
