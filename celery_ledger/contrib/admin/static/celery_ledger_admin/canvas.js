/* Canvases are drawn anew every three seconds, while they are visible and do not have the focus. */
for (const canvas of document.querySelectorAll("[data-canvas]")) {
  let before = "";
  setInterval(async () => {
    if (document.visibilityState !== "visible" || canvas.contains(document.activeElement)) return;
    const answer = await fetch(canvas.dataset.canvas, { credentials: "same-origin", redirect: "error" }).catch(() => null);
    const drawn = answer?.ok ? await answer.text() : before;
    if (drawn === before || canvas.contains(document.activeElement)) return;
    const isOpen = canvas.querySelector("details")?.open;
    canvas.innerHTML = before = drawn;
    if (isOpen) canvas.querySelector("details").open = true;
  }, 3000);
  canvas.addEventListener("click", (event) => {
    const node = event.target.closest?.("a[href^='#canvas-']");
    if (node) canvas.querySelector("details").open = true;
  });
}
