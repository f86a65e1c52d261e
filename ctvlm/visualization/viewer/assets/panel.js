// The panel beside the pictures. All text enters the page as text nodes, never as HTML.

const FINDINGS_SHOWN = 8;

function element(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "onclick") node.addEventListener("click", value);
    else node.setAttribute(name, value);
  }
  node.append(...children);
  return node;
}

function section(title, note, ...children) {
  const heading = element("h2", {}, title, note ? element("small", {}, note) : "");
  return element("section", { "aria-label": title }, heading, ...children);
}

function swatch(colour) {
  const node = element("i", { class: "swatch" });
  node.style.background = colour;
  return node;
}

function meter(value) {
  const bar = element("i");
  bar.style.width = `${Math.round(100 * value)}%`;
  return element("span", { class: "meter", "aria-hidden": "true" }, bar);
}

function percent(value) {
  return `${Math.round(100 * value)}%`;
}

function stepButton(step, number, sliceOfStep, choose) {
  const about = element("span", { class: "about" });
  for (const { id, name } of step.regions) {
    const colour = content.regions.find((region) => region.id === id)?.colour ?? "#5a646e";
    about.append(element("span", {}, swatch(colour), name));
  }
  if (sliceOfStep !== null) about.append(element("span", {}, `slice ${sliceOfStep}`));
  if (step.confidence !== null) {
    about.append(element("span", { title: "mean probability of the generated words" }, meter(step.confidence), percent(step.confidence)));
  }
  return element(
    "button",
    { class: "step", "aria-pressed": "false", onclick: () => choose(number) },
    element("span", { class: "number" }, `${number + 1}`),
    element("span", { class: "text" }, step.text),
    about,
  );
}

function stepsSection(sliceOfStep, choose) {
  const list = element("ol");
  content.steps.forEach((step, number) => {
    list.append(element("li", {}, stepButton(step, number, sliceOfStep(step), choose)));
  });
  const out = section("Reasoning", content.stepOrigin, list);
  if (content.impression) {
    out.append(element("p", { class: "impression" }, element("b", {}, "Impression"), content.impression));
  }
  return out;
}

function findingsSection() {
  const sorted = [...content.findings].sort((a, b) => b.probability - a.probability);
  const rows = sorted.map(({ name, probability }) =>
    element("li", { class: "finding" }, element("span", {}, name), meter(probability), element("output", {}, percent(probability))),
  );
  const out = section("Findings", "probability", element("ul", {}, ...rows));
  if (rows.length > FINDINGS_SHOWN + 1) {
    const rest = rows.slice(FINDINGS_SHOWN);
    rest.forEach((row) => { row.hidden = true; });
    const more = element("button", { class: "more", onclick: () => {
      rest.forEach((row) => { row.hidden = false; });
      more.remove();
    } }, `Show all ${rows.length}`);
    out.append(more);
  }
  return out;
}

function similarSection() {
  const rows = content.similar.map((one) =>
    element(
      "li",
      { class: "similar" },
      element("div", {}, element("span", {}, one.case), element("output", {}, one.similarity.toFixed(2))),
      one.text ? element("p", {}, one.text) : "",
    ),
  );
  return section("Similar cases", "cosine similarity", element("ul", {}, ...rows));
}

function regionsSection(toggle) {
  const buttons = content.regions.map(({ id, name, colour }) =>
    element("button", { "aria-pressed": "true", "data-region": id, onclick: () => toggle([id]) }, swatch(colour), name),
  );
  const out = section("Regions", content.regionOrigin, element("div", { class: "legend" }, ...buttons));
  const all = element("button", { onclick: () => toggle(content.regions.map((r) => r.id)) }, "show or hide all");
  out.querySelector("h2").append(all);
  return out;
}

function metadataSection() {
  const pairs = content.metadata.flatMap(([name, value]) => [element("dt", {}, name), element("dd", {}, value)]);
  return section("About", "", element("dl", {}, ...pairs));
}

function fillPanel(panel, { sliceOfStep, choose, toggle }) {
  if (content.steps.length || content.impression) panel.append(stepsSection(sliceOfStep, choose));
  if (content.findings.length) panel.append(findingsSection());
  if (content.similar.length) panel.append(similarSection());
  if (content.regions.length) panel.append(regionsSection(toggle));
  if (content.metadata.length) panel.append(metadataSection());
}
