// Values below the pointer, and one policy among the others. The page says everything without it.
const box = document.getElementById("reading");
const plain = new Intl.NumberFormat("en", { maximumSignificantDigits: 4 });
function height(path, x) {
  let value = null;
  for (const [, letter, first, second] of path.getAttribute("d").matchAll(/([MHV])(-?[\d.]+)(?: (-?[\d.]+))?/g)) {
    if (letter === "V") value = +first;
    else if (+first > x) break;
    else if (letter === "M") value = +second;
  }
  if (value === null) return null;
  const { zero, top, high } = path.dataset;
  return (zero - value) / (zero - top) * high;
}
for (const plot of document.querySelectorAll("svg.timeline")) {
  const { left, right, from, until } = plot.dataset;
  const cursor = plot.querySelector(".cursor");
  plot.addEventListener("pointerleave", () => { box.hidden = true; cursor.setAttribute("visibility", "hidden"); });
  plot.addEventListener("pointermove", (event) => {
    const frame = plot.getBoundingClientRect();
    const x = (event.clientX - frame.left) / frame.width * plot.viewBox.baseVal.width;
    if (x < +left || x > +right) return;
    const time = new Date(+from + (x - left) / (right - left) * (until - from));
    const lines = [time.toISOString().slice(0, 19).replace("T", " ") + " UTC"];
    for (const path of plot.querySelectorAll("path[data-name]")) {
      const value = height(path, x);
      if (value !== null) lines.push(path.dataset.name + "  " + plain.format(value));
    }
    box.textContent = lines.join("\n");
    box.hidden = false;
    const over = event.clientX + 18 + box.offsetWidth > innerWidth;
    box.style.left = event.clientX + (over ? -18 - box.offsetWidth : 18) + "px";
    box.style.top = event.clientY + 14 + "px";
    for (const end of ["x1", "x2"]) cursor.setAttribute(end, x);
    cursor.setAttribute("visibility", "visible");
  });
}
for (const entry of document.querySelectorAll(".legend [data-policy]")) {
  const figure = entry.closest("figure");
  const same = figure.querySelectorAll(`[data-policy="${entry.dataset.policy}"]`);
  const choose = (on) => { figure.classList.toggle("chosen", on); same.forEach((part) => part.classList.toggle("chosen", on)); };
  entry.addEventListener("pointerenter", () => choose(true));
  entry.addEventListener("pointerleave", () => choose(false));
}
