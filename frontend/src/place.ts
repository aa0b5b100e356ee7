/**
 * The scroll position of each page of the history: going back restores it.
 *
 * Browsers restore it before the page's content has loaded. Here it is restored once the page is long enough.
 */

/** Milliseconds after which a page that is still too short is assumed to have become shorter. */
const PATIENCE = 4000;
/** Frames for which a page must keep its position before it is left alone. */
const STILL = 10;
/** Milliseconds without scrolling after which the position is recorded. */
const PAUSE = 120;

let goingBack = false;
/** The position to restore, while the page is not there yet. */
let wanted: number | null = null;
let timer: ReturnType<typeof setTimeout> | undefined;

/** Whether the current page was reached by Back or Forward, and keeps its position. */
export function isKept(): boolean {
  return goingBack;
}

function note(): void {
  clearTimeout(timer);
  if (wanted !== null) return;
  // Not by the router's replaceState, which would make every page check its location.
  History.prototype.replaceState.call(history, { ...(history.state as object | null), scroll: Math.round(scrollY) }, "");
}

function putBack(place: number): void {
  wanted = place;
  const end = performance.now() + PATIENCE;
  let still = 0;
  const look = () => {
    if (wanted === null) return;
    const reached = Math.abs(scrollY - wanted) < 2;
    still = reached ? still + 1 : 0;
    if (still > STILL || performance.now() > end) {
      wanted = null;
      return;
    }
    if (!reached) scrollTo(0, wanted);
    requestAnimationFrame(look);
  };
  requestAnimationFrame(look);
}

function placeOf(state: unknown): number {
  return (state as { scroll?: number } | null)?.scroll ?? 0;
}

/** Start recording positions. To be called before the router handles any event. */
export function keepPlaces(): void {
  history.scrollRestoration = "manual";
  if (placeOf(history.state) > 0) putBack(placeOf(history.state));
  addEventListener("popstate", (event) => {
    clearTimeout(timer);
    goingBack = true;
    putBack(placeOf(event.state));
  });
  // The router dispatches this itself, after it has added a page to the history.
  addEventListener("pushState", () => {
    clearTimeout(timer);
    goingBack = false;
    wanted = null;
  });
  addEventListener("scroll", () => {
    clearTimeout(timer);
    timer = setTimeout(note, PAUSE);
  });
  document.addEventListener("click", note, { capture: true });
  addEventListener("pagehide", note);
  for (const act of ["wheel", "touchstart", "keydown", "pointerdown"]) addEventListener(act, () => (wanted = null), { passive: true, capture: true });
}
