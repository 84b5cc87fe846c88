"use strict";
const find = (selector, within = document) => within.querySelector(selector);
const all = (selector, within = document) => [...within.querySelectorAll(selector)];
const make = (tag, text = "", name = "") => Object.assign(document.createElement(tag), { textContent: text, className: name });

// Light or dark: as the machine has it, until somebody chooses.
find("#theme").addEventListener("click", () => {
  const root = document.documentElement, dark = matchMedia("(prefers-color-scheme: dark)").matches;
  const now = root.dataset.theme ?? (dark ? "dark" : "light");
  root.dataset.theme = now === "dark" ? "light" : "dark";
});

function said(button, text) {
  const before = button.dataset.label ??= button.textContent;
  button.textContent = text;
  setTimeout(() => (button.textContent = before), 1600);
}
async function copy(button, text) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {  // a page without the clipboard's permission
    const area = document.body.appendChild(Object.assign(make("textarea"), { value: text }));
    area.select();
    document.execCommand("copy");
    area.remove();
  }
  said(button, "Copied");
}
function save(button) {
  const link = make("a");
  link.href = URL.createObjectURL(new Blob([button.dataset.save], { type: "text/csv" }));
  link.download = button.dataset.file;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}
document.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (!button) return;
  if (button.dataset.copy !== undefined) copy(button, button.dataset.copy || find("pre", button.parentElement).textContent);
  if (button.dataset.save !== undefined) save(button);
  if (button.classList.contains("zoom")) zoom(button);
});

// Pictures in their full size; Escape or a click closes.
const dialog = find("dialog");
function zoom(button) {
  const from = find("img", button), picture = find("img", dialog);
  picture.src = from.src;
  picture.alt = from.alt;
  dialog.showModal();
}
dialog.addEventListener("click", () => dialog.close());

// The ranking.
const ranking = find("#ranking table");
if (ranking) {
  const told = JSON.parse(find("#rows").textContent), body = ranking.tBodies[0], rows = [...body.rows];
  const filter = find("#filter"), choices = all("#ranking select"), count = find("#count");

  function closeDetails(row) {
    const open = find(".open", row);
    if (open?.getAttribute("aria-expanded") === "true") {
      row.nextElementSibling.remove();
      open.setAttribute("aria-expanded", "false");
    }
  }
  function show() {
    const words = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
    let left = 0;
    for (const row of rows) {
      const text = row.textContent.toLowerCase();
      const fits = words.every((word) => text.includes(word)) &&
        choices.every((choice) => !choice.value || row.cells[choice.dataset.column].textContent.trim() === choice.value);
      row.hidden = !fits;
      if (!fits) closeDetails(row);
      left += fits;
    }
    count.textContent = left === rows.length ? `${left} configurations` : `${left} of ${rows.length} configurations`;
    find("#ranking .none").hidden = left > 0;
  }
  filter.addEventListener("input", show);
  choices.forEach((choice) => choice.addEventListener("change", show));
  document.addEventListener("keydown", (event) => {
    if (event.key === "/" && !/INPUT|SELECT|TEXTAREA/.test(document.activeElement.tagName)) {
      event.preventDefault();
      filter.focus();
    }
    if (event.key === "Escape" && document.activeElement === filter) {
      filter.value = "";
      show();
    }
  });

  const value = (row, column) => row.cells[column].dataset.value ?? row.cells[column].textContent.trim();
  function compare(one, other) {
    if (one === "" || other === "") return (one === "") - (other === "");  // what is absent comes last either way
    const numbers = [Number(one), Number(other)];
    return numbers.some(Number.isNaN) ? one.localeCompare(other, undefined, { numeric: true }) : numbers[0] - numbers[1];
  }
  all("thead th", ranking).forEach((head, column) => find("button", head).addEventListener("click", () => {
    const down = head.getAttribute("aria-sort") === "ascending" || (!head.hasAttribute("aria-sort") && head.dataset.first === "descending");
    all("thead th", ranking).forEach((other) => other.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    rows.forEach(closeDetails);
    const absent = (row) => value(row, column) === "";
    rows.sort((one, other) => compare(value(one, column), value(other, column)) * (down && !absent(one) && !absent(other) ? -1 : 1));
    body.append(...rows);
  }));

  function block(title, text, wide) {
    const box = make("div", "", wide ? "wide" : ""), head = make("h3", title), button = make("button", "Copy");
    button.type = "button";
    button.dataset.copy = text;
    head.append(button);
    box.append(head, Object.assign(make("pre", text), { tabIndex: 0 }));  // it scrolls, so keys must reach it
    return box;
  }
  function pages(links) {
    const box = make("div", "", "wide"), line = make("p", "", "pages");
    line.append(...links.map(([name, url]) => Object.assign(make("a", name), { href: url, target: "_blank", rel: "noreferrer" })));
    if (told.record) line.append(make("span", "while this runs:"), make("code", told.record));
    box.append(make("h3", "Its recorded runs"), line);
    return box;
  }
  const written = (settings) => Object.entries(settings).map(([key, item]) => `${key}: ${JSON.stringify(item)}`).join("\n");
  function details(row) {
    const one = told.rows[row.dataset.row], box = make("div", "", "detail");
    if (one.command) box.append(block("Repeat it (what is stored is taken from the store; --fresh computes it anew)", one.command, true));
    box.append(block("Configuration", written({ ...one.settings, ...told.shared })), block("Metrics", one.metrics));
    if (one.pages.length) box.append(pages(one.pages));
    box.append(block("Stages by seed, and how to look at them", one.stages, true));
    const cell = make("td");
    cell.colSpan = row.cells.length;
    cell.append(box);
    const line = make("tr", "", "details");
    line.append(cell);
    return line;
  }
  body.addEventListener("click", (event) => {
    const open = event.target.closest(".open");
    if (!open) return;
    const row = open.closest("tr");
    if (open.getAttribute("aria-expanded") === "true") return closeDetails(row);
    open.setAttribute("aria-expanded", "true");
    row.after(details(row));
  });
  show();
}
