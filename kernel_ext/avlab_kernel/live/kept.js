// What a notebook keeps of its live views when JupyterLab or Notebook 7 saves it: the last picture and figures, as the state of a small
// widget that stands in where no kernel answers for the view. The stand-in has a name of its own and takes the view's only once it is
// loaded: a converter, which looks a view up in the states and does not find it, shows the picture of the output instead.

// Calls `remains` whenever the notebook is saved: it gives a label, a poster (a data URL, or empty) and rows of figures. Returns what ends it.
function keep(model, remains) {
  const views = keeper(model.widget_manager);
  const view = [model.get("name"), () => standIn(model, remains())];
  views?.add(view);
  return () => views?.delete(view);
}

function standIn(model, kept) {
  const parts = [element, listed, keeper, saved, displayed, takeOver, drawKept];
  const [module, version] = ["anywidget", model.get("_model_module_version")];
  const state = {
    _model_name: "AnyModel", _model_module: module, _model_module_version: version,
    _view_name: "AnyView", _view_module: module, _view_module_version: version, _anywidget_id: "avlab.kept",
    _esm: `${parts.join("\n")}\nexport default { initialize: takeOver, render: drawKept };\n`,
    _css: model.get("_css"), stands_for: model.get("name"), ...kept,
  };
  return { model_name: "AnyModel", model_module: module, model_module_version: version, state };
}

// From here on code runs in stand-ins too, as text: it uses nothing else of this module than what `parts` names.

// The views of one notebook, shared by all modules that are loaded for it; null where it is not JupyterLab's.
function keeper(manager) {
  const { context } = manager ?? {};
  const shared = Symbol.for("avlab.kept");
  if (!context?.saveState || !context.model?.setMetadata) return null;
  if (!context[shared]) {
    const views = (context[shared] = new Set());
    context.saveState.connect((_, step) => step === "started" && saved(context.model, views));
  }
  return context[shared];
}

// Brings stand-ins up to date: one for each view that an output shows, none for others.
function saved(notebook, views) {
  const kind = "application/vnd.jupyter.widget-state+json";
  const widgets = notebook.getMetadata("widgets") ?? {};
  const { state: before = {}, ...rest } = widgets[kind] ?? { version_major: 2, version_minor: 0 };
  const shown = displayed(notebook);
  const made = new Map([...views].filter(([name]) => shown.has(name)).map(([name, make]) => [name, make()]));
  const stays = (name, of) => !made.has(name) && (!of || (shown.has(of) && !made.has(of)));
  const after = Object.entries(before).filter(([name, { state }]) => stays(name, state?.stands_for));
  for (const [name, state] of made) after.push([`${name}-kept`, state]);
  if (after.length) notebook.setMetadata("widgets", { ...widgets, [kind]: { ...rest, state: Object.fromEntries(after) } });
  else if (Object.keys(before).length) notebook.deleteMetadata("widgets");
}

// Names of the widgets that outputs of a notebook show.
function displayed(notebook) {
  const shown = new Set();
  for (let at = 0; at < notebook.cells.length; at++) {
    const outputs = notebook.cells.get(at).outputs;
    for (let one = 0; one < (outputs?.length ?? 0); one++) shown.add(outputs.get(one).data["application/vnd.jupyter.widget-view+json"]?.model_id);
  }
  return shown;
}

function takeOver({ model }) {
  const manager = model.widget_manager;
  const name = model.get("stands_for");
  keeper(manager);
  if (manager?.register_model && !manager.has_model(name)) manager.register_model(name, manager.get_model(`${name}-kept`));
}

function drawKept({ model, el }) {
  const poster = model.get("poster");
  const stage = element("div", { class: "avlab-stage" });
  if (poster) stage.append(element("img", { class: "avlab-poster", alt: "The last picture", src: poster }));
  stage.hidden = !poster;
  const status = element("div", { class: "avlab-status", role: "group", "aria-label": "Last figures" }, ...listed(model.get("figures")));
  const said = element("div", { class: "avlab-said" }, element("span", { class: "avlab-path" }, "Not running: run the cell again."));
  const root = element("div", { class: "avlab-preview avlab-kept", "data-testid": "avlab-kept", role: "region", "aria-label": model.get("label") }, stage, status, said);
  const picture = stage.querySelector("img");
  picture?.addEventListener("load", () => (stage.style.aspectRatio = `${picture.naturalWidth} / ${picture.naturalHeight}`));
  el.append(root);
}
