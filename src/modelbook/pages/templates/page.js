// Sorts tables, and recomputes what a model is worth. Pages are complete without it.
(() => {
  "use strict";
  // A cell that begins with a number sorts by it; others, dates among them, as text.
  const number = text => {
    const match = text.replace(/,/g, "").replace("−", "-").match(/^[^\d\s-]{0,2}(-?\d+(\.\d+)?)(?!\d*-\d)/);
    return match ? Number(match[1]) : NaN;
  };
  const compare = (a, b) => {
    const [x, y] = [number(a), number(b)];
    if (!Number.isNaN(x) && !Number.isNaN(y)) return x - y;
    if (!Number.isNaN(x) || !Number.isNaN(y)) return Number.isNaN(x) - Number.isNaN(y);
    return a.localeCompare(b, undefined, {numeric: true});
  };
  const sort = (table, column, button) => {
    const head = button.closest("th"), down = head.getAttribute("aria-sort") === "ascending";
    for (const other of table.tHead.querySelectorAll("th")) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    const text = row => row.cells[column] ? row.cells[column].textContent.trim() : "";
    const rows = [...table.tBodies[0].rows].sort((a, b) => compare(text(a), text(b)));
    table.tBodies[0].append(...(down ? rows.reverse() : rows));
  };
  for (const table of document.querySelectorAll("main table, .worth table")) {
    if (!table.tHead || table.tHead.rows.length !== 1 || table.tBodies.length !== 1) continue;
    if (table.tBodies[0].rows.length < 3 || table.querySelector("[rowspan],[colspan]")) continue;
    [...table.tHead.rows[0].cells].forEach((cell, column) => {
      if (!cell.textContent.trim()) return;
      const button = document.createElement("button");
      button.type = "button";
      button.className = "sort";
      button.append(...cell.childNodes);
      cell.append(button);
      button.addEventListener("click", () => sort(table, column, button));
    });
  }

  // What does not scroll is no stop of the tab key.
  const stop = () => document.querySelectorAll(".scroll").forEach(part => {
    const isWide = part.scrollWidth > part.clientWidth;
    part.tabIndex = isWide ? 0 : -1;
    part.classList.toggle("wide", isWide);
  });
  stop();
  addEventListener("resize", stop);

  const percent = share => Math.round(100 * share) + "%";
  const count = amount => Math.round(amount).toLocaleString("en-US");
  const setUp = section => {
    const value = JSON.parse(section.dataset.value), gains = value.gains;
    if (!gains.share) return;
    const part = name => section.querySelector(`[data-worth="${name}"]`);
    const show = (name, text) => { if (part(name)) part(name).textContent = text; };
    const costs = () => Object.fromEntries([...section.querySelectorAll("[data-cost]")]
      .map(input => [input.dataset.cost, Number(input.value)]));
    const expected = (cost, share, precision) => {
      const truePositives = share * precision, falsePositives = share - truePositives;
      return cost.cost_tp * truePositives + cost.cost_fn * (value.rate - truePositives)
        + cost.cost_fp * falsePositives + cost.cost_tn * (1 - value.rate - falsePositives);
    };
    const update = () => {
      const cost = costs(), place = Number(part("share").value) - 1;
      // where it began, it stands for the capacity itself, not for the nearest percent
      const isCapacity = place === first;
      const at = name => isCapacity ? exact[name] : gains[name][place];
      const nobody = expected(cost, 0, 0), everybody = expected(cost, 1, value.rate);
      const share = isCapacity ? value.capacity : gains.share[place];
      // at random up to the capacity, which may be more than the model flags
      const random = expected(cost, isCapacity ? value.limit ?? share : share, value.rate);
      const base = Math.min(nobody, value.capacity_is_set ? random : everybody);
      const model = gains.share.map((s, k) => expected(cost, s, gains.precision[k]));
      const best = model.indexOf(Math.min(nobody, ...model));
      const size = value.period_rows, flagged = isCapacity ? exact.flagged : share * size;
      // as in the table: costs are rounded first, so that the amounts that are shown add up
      const total = Math.round(base * size) - Math.round(expected(cost, share, at("precision")) * size);
      part("share").setAttribute("aria-valuetext", count(flagged));
      show("flagged", count(flagged));
      show("recall", percent(at("recall")));
      show("interval", percent(at("recall_low")) + "–" + percent(at("recall_high")));
      if (gains.amount) {
        show("amount", percent(at("amount")));
        show("amount_interval", percent(at("amount_low")) + "–" + percent(at("amount_high")));
      }
      show("precision", percent(at("precision")));
      show("saving", (total < 0 ? "it loses " : "it saves ") + count(Math.abs(total)) + " "
        + value.unit + " compared with flagging " + (base === nobody ? "nobody"
          : value.capacity_is_set ? "at random up to the capacity" : "everybody"));
      show("best", best < 0 ? "nobody"
        : `${count(gains.share[best] * size)} (${percent(gains.share[best])})`);
      show("env", [...Object.entries(cost).map(([name, text]) => `${name}: ${text}`),
        `capacity: ${Math.round(flagged)}`].join("\n"));
    };
    const controls = section.querySelector(".scripted");
    if (!controls) return;
    const exact = value.at_capacity, first = Number(part("share").value) - 1;
    controls.hidden = false;
    const start = ["flagged", "recall", "interval", "amount", "amount_interval", "precision"]
      .map(name => [name, part(name) ? part(name).textContent : ""]);
    update();
    start.forEach(([name, text]) => show(name, text));
    controls.addEventListener("input", update);
  };
  document.querySelectorAll("[data-value]").forEach(setUp);
})();
