// State of the page, and what changes it.

const get = (id) => document.getElementById(id);
const state = {
  voxel: [0, 0, 0],
  range: [-160, 240],
  step: null,
  outlines: true,
  names: true,
  attention: true,
  hidden: new Set(),
  highlighted: new Set(),
};
const TOGGLES = [["outlines", "Outlines", "o"], ["names", "Names", "n"], ["attention", "Attention", "a"]];

async function start() {
  fillHeader();
  if (!window.DecompressionStream) return fail("this browser cannot decompress data (DecompressionStream); use a newer one");
  const ct = await readVolume("ct");
  const regions = get("regions") ? await readVolume("regions") : null;
  const stage = await openStage(ct);
  const overlay = openOverlay(get("overlay"), regions);
  state.sliceName = (plane) => {
    if (plane.through === 2) return `${sliceNumber(state.voxel[2], ct)} / ${content.slices}`;
    return `${state.voxel[plane.through] + 1} / ${ct.dims[plane.through]}`;
  };
  const view = openView(ct, regions, stage, overlay);
  fillToolbar(view, stage);
  fillPanel(get("panel"), {
    sliceOfStep: (step) => (step.voxel ? sliceNumber(Math.round(step.voxel[2]), ct) : null),
    choose: view.choose,
    toggle: view.toggleRegions,
  });
  listen(view, stage, ct);
  view.goTo(ct.dims.map((n) => Math.floor(n / 2)));
  view.chooseWindow(content.windows.findIndex((w) => w.name !== "lung"));
  get("status").hidden = true;
  document.body.dataset.ready = "true";
}

function fail(message) {
  get("status").hidden = true;
  get("notice").hidden = false;
  get("notice").textContent = `The CT is not shown: ${message}.`;
}

// Slices are counted in the CT, which may have more of them than the page.
function sliceNumber(z, ct) {
  return Math.round(((z + 0.5) * content.slices) / ct.dims[2] - 0.5) + 1;
}

async function openStage(ct) {
  let reason = "this browser has no WebGL 2";
  if (hasWebGL()) {
    try {
      return await openNiivue(get("picture"), ct);
    } catch (error) {
      get("picture").replaceChildren();
      reason = `NiiVue does not start (${error.message})`;
    }
  }
  get("notice").hidden = false;
  get("notice").textContent = `Simple slices without attention maps: ${reason}.`;
  return openCanvas(get("picture"), ct);
}

function fillHeader() {
  get("case").textContent = content.case;
  get("facts").textContent = content.facts.join(" · ");
  get("remark").hidden = !content.remark;
  get("remark").textContent = content.remark;
  get("home").hidden = !content.home;
  if (content.home) get("home").href = content.home;
}

function openView(ct, regions, stage, overlay) {
  const view = {
    redraw() {
      overlay(stage.tiles(), state);
      get("slice").value = state.voxel[2];
      get("readout").textContent = readout(ct, regions);
    },
    goTo(voxel) {
      state.voxel = voxel.map((v, axis) => Math.min(Math.max(Math.round(v), 0), ct.dims[axis] - 1));
      stage.setVoxel(state.voxel);
      if (!stage.niivue) stage.draw();
      view.redraw();
    },
    move(axis, by) {
      view.goTo(state.voxel.map((v, i) => (i === axis ? v + by : v)));
    },
    resize() {
      stage.draw();
      view.redraw();
    },
    setRange(low, high) {
      state.range = [low, Math.max(high, low + 1)];
      stage.setRange(...state.range);
      if (!stage.niivue) stage.draw();
      const [centre, width] = [(low + high) / 2, high - low];
      get("window-values").textContent = `centre ${Math.round(centre)}, width ${Math.round(width)} HU`;
      view.redraw();
      content.windows.forEach((one, i) => {
        const checked = one.centre === centre && one.width === width;
        get("windows").children[i].setAttribute("aria-checked", checked);
      });
    },
    chooseWindow(number) {
      const one = content.windows[number];
      if (one) view.setRange(one.centre - one.width / 2, one.centre + one.width / 2);
    },
    async showAttention() {
      const step = content.steps[state.step];
      const id = step && state.attention ? step.attention : null;
      get("scale").hidden = id === null || !stage.hasAttention;
      if (id !== null) get("scale-floor").textContent = attentionFloor(step.peak).toFixed(1);
      if (id !== null) get("scale-peak").textContent = `${step.peak.toFixed(1)} × mean`;
      await stage.setAttention(id, step?.peak);
      view.redraw();
    },
    async choose(number) {
      state.step = number === state.step ? null : number;
      const step = content.steps[state.step];
      state.highlighted = new Set(step ? step.regions.map((region) => region.id) : []);
      document.querySelectorAll(".step").forEach((button, i) => button.setAttribute("aria-pressed", i === state.step));
      if (step) document.querySelectorAll(".step")[state.step].scrollIntoView({ block: "nearest" });
      if (step?.voxel) view.goTo(step.voxel);
      else view.redraw();
      await view.showAttention();
    },
    toggleRegions(ids) {
      const hide = ids.some((id) => !state.hidden.has(id));
      ids.forEach((id) => (hide ? state.hidden.add(id) : state.hidden.delete(id)));
      document.querySelectorAll("[data-region]").forEach((button) => {
        button.setAttribute("aria-pressed", !state.hidden.has(Number(button.dataset.region)));
      });
      view.redraw();
    },
    toggle(name) {
      state[name] = !state[name];
      get(`toggle-${name}`)?.setAttribute("aria-pressed", state[name]);
      if (name === "attention") view.showAttention();
      else view.redraw();
    },
  };
  return view;
}

function readout(ct, regions) {
  const hu = voxelAt(ct, state.voxel);
  const id = regions ? voxelAt(regions, state.voxel) : 0;
  const name = content.regions.find((region) => region.id === id)?.name;
  const position = millimetres(ct, state.voxel).map((mm, axis) => `${LETTERS[axis][mm < 0 ? 0 : 1]} ${Math.abs(mm).toFixed(0)}`);
  return [`${position.join(" ")} mm`, `${hu} HU`.replace("-", "−"), ...(name ? [name] : [])].join(" · ");
}

function fillToolbar(view, stage) {
  get("last-window").textContent = content.windows.length;
  content.windows.forEach((one, number) => {
    get("windows").append(element("button", { role: "radio", "aria-checked": "false", onclick: () => view.chooseWindow(number) }, one.name));
  });
  for (const [name, label] of TOGGLES) {
    if (name === "attention" ? !stage.hasAttention || !content.steps.some((s) => s.attention) : !content.regions.length) continue;
    get("toggles").append(element("button", { id: `toggle-${name}`, "aria-pressed": "true", onclick: () => view.toggle(name) }, label));
  }
}

function listen(view, stage, ct) {
  const overlay = get("overlay");
  const tileAt = ({ offsetX: x, offsetY: y }) =>
    stage.tiles().find(({ rect }) => x >= rect[0] && y >= rect[1] && x < rect[0] + rect[2] && y < rect[1] + rect[3]);
  let rolled = 0;
  overlay.addEventListener("wheel", (event) => {
    const tile = tileAt(event);
    if (!tile || event.ctrlKey) return;
    event.preventDefault();
    // Touchpads send many small movements.
    rolled += event.deltaMode === 0 ? event.deltaY / 60 : Math.sign(event.deltaY);
    const slices = Math.trunc(rolled);
    rolled -= slices;
    if (slices) view.move(tile.plane.through, -slices);
  }, { passive: false });

  let drag = null;
  const point = (event) => {
    const { plane, x0, dx, y0, dy } = drag.tile;
    const voxel = [...state.voxel];
    voxel[plane.across] = (event.offsetX - x0) / dx - 0.5;
    voxel[plane.up] = (event.offsetY - y0) / dy - 0.5;
    view.goTo(voxel);
  };
  overlay.addEventListener("contextmenu", (event) => event.preventDefault());
  overlay.addEventListener("pointerdown", (event) => {
    const tile = tileAt(event);
    if (!tile) return;
    drag = { tile, windowing: event.button === 2, x: event.clientX, y: event.clientY, range: state.range };
    overlay.setPointerCapture(event.pointerId);
    if (!drag.windowing) point(event);
  });
  overlay.addEventListener("pointermove", (event) => {
    if (!drag) return;
    if (!drag.windowing) return point(event);
    const [low, high] = drag.range;
    const centre = (low + high) / 2 - 2 * (drag.y - event.clientY);
    const width = Math.max(1, high - low + 4 * (event.clientX - drag.x));
    view.setRange(centre - width / 2, centre + width / 2);
  });
  for (const end of ["pointerup", "pointercancel"]) overlay.addEventListener(end, () => { drag = null; });

  get("slice").max = ct.dims[2] - 1;
  get("slice").addEventListener("input", () => view.move(2, get("slice").valueAsNumber - state.voxel[2]));
  new ResizeObserver(() => view.resize()).observe(get("stage"));
  document.addEventListener("keydown", (event) => onKey(event, view));
}

function onKey(event, view) {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const onSlider = event.target === get("slice") && event.key.startsWith("Arrow");
  const steps = content.steps.length;
  const next = (by) => view.choose(state.step === null ? (by > 0 ? 0 : steps - 1) : (state.step + by + steps) % steps);
  const toggle = TOGGLES.find(([, , key]) => key === event.key.toLowerCase());
  const actions = {
    ArrowUp: () => view.move(2, 1),
    ArrowDown: () => view.move(2, -1),
    PageUp: () => view.move(2, 10),
    PageDown: () => view.move(2, -10),
    ArrowRight: () => steps && next(1),
    ArrowLeft: () => steps && next(-1),
    Escape: () => state.step !== null && view.choose(state.step),
  };
  let action = actions[event.key];
  if (toggle) action = () => view.toggle(toggle[0]);
  if (/^[1-9]$/.test(event.key) && content.windows[event.key - 1]) action = () => view.chooseWindow(event.key - 1);
  if (!action || onSlider) return;
  event.preventDefault();
  action();
}

start().catch((error) => {
  fail(error.message);
  throw error;
});
