// Modelbook in JupyterLab: a launcher tile that opens the panel in a tab, and reports whose links
// work. A module-federation container, as JupyterLab loads prebuilt extensions:
// https://webpack.js.org/concepts/module-federation. Written by hand, so that nothing is built.
"use strict";
var _JUPYTERLAB = window._JUPYTERLAB || {};
window._JUPYTERLAB = _JUPYTERLAB;

(() => {
  let scope = null;

  async function share(name) {
    const [version] = Object.values(scope[name]);
    return (await version.get())();
  }

  function openPanel(app, apputils, baseUrl) {
    const frame = new apputils.IFrame({
      sandbox: ["allow-same-origin", "allow-scripts", "allow-forms", "allow-modals"],
    });
    frame.url = `${baseUrl}modelbook/panel`;
    const widget = new apputils.MainAreaWidget({ content: frame });
    widget.id = "modelbook-panel";
    widget.title.label = "Modelbook";
    widget.title.closable = true;
    app.shell.add(widget, "main");
    return widget;
  }

  function makeReportFactory(registry, apputils, baseUrl) {
    // As JupyterLab's own viewer of HTML, but from an address at which the reports' links work.
    class ReportFactory extends registry.ABCWidgetFactory {
      createNewWidget(context) {
        const content = new apputils.IFrame({
          sandbox: ["allow-same-origin", "allow-scripts", "allow-popups", "allow-downloads"],
        });
        content.url = `${baseUrl}modelbook/files/${encodeURI(context.path)}`;
        return new registry.DocumentWidget({ content, context });
      }
    }
    return new ReportFactory({
      name: "Modelbook report",
      modelName: "text",
      fileTypes: ["modelbook-report"],
      defaultFor: ["modelbook-report"],
      readOnly: true,
    });
  }

  async function makePlugin() {
    const [apputils, services, launchers, registry] = await Promise.all(
      ["@jupyterlab/apputils", "@jupyterlab/coreutils", "@jupyterlab/launcher", "@jupyterlab/docregistry"]
        .map(share),
    );
    const baseUrl = services.PageConfig.getBaseUrl();
    return {
      id: "modelbook:panel",
      autoStart: true,
      optional: [launchers.ILauncher, apputils.ICommandPalette],
      activate: (app, launcher, palette) => {
        let panel = null;
        app.commands.addCommand("modelbook:open", {
          label: "Modelbook panel",
          caption: "Stages, builds and reports of the project",
          execute: () => {
            panel = panel && !panel.isDisposed ? panel : openPanel(app, apputils, baseUrl);
            app.shell.activateById(panel.id);
          },
        });
        launcher?.add({ command: "modelbook:open", category: "Other", rank: 0 });
        palette?.addItem({ command: "modelbook:open", category: "Modelbook" });
        app.docRegistry.addFileType({
          name: "modelbook-report",
          displayName: "Modelbook report",
          extensions: [".html"],
          pattern: "^(\\d\\d_[a-z_]+|card-\\d+|index)\\.html$",
          fileFormat: "text",
        });
        app.docRegistry.addWidgetFactory(makeReportFactory(registry, apputils, baseUrl));
        window.addEventListener("message", (event) => {
          const path = event.origin === window.location.origin && event.data?.modelbookOpen;
          if (typeof path === "string") app.commands.execute("docmanager:open", { path });
        });
      },
    };
  }

  _JUPYTERLAB.modelbook = {
    init: (sharedScope) => {
      scope = sharedScope;
    },
    get: async () => {
      const plugin = await makePlugin();
      return () => ({ __esModule: true, default: plugin });
    },
  };
})();
