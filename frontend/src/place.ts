/**
 * Where one was on each page of the history: whoever goes back finds the page as far down as it was left.
 *
 * Browsers put a page back into its place before what is on it has come. Here it is put there once it is long enough.
 */

/** Milliseconds after which a page that is still too short is taken for shorter than it was. */
const PATIENCE = 4000;
/** Pictures for which a page has to stay in its place until it is left alone. */
const STILL = 10;
/** Milliseconds without scrolling after which a place is noted. */
const PAUSE = 120;

let goingBack = false;
/** How far down the page is to be, while it is not there yet. */
let wanted: number | null = null;
let timer: ReturnType<typeof setTimeout> | undefined;

/** Whether the page that is shown was come to by Back or Forward, and keeps its place. */
export function isKept(): boolean {
  return goingBack;
}

function note(): void {
  clearTimeout(timer);
  if (wanted !== null) return;
  // Not by the router's replaceState, which would have every page look where it is.
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

/** Begin to keep places. It has to be before the router hears of anything. */
export function keepPlaces(): void {
  history.scrollRestoration = "manual";
  if (placeOf(history.state) > 0) putBack(placeOf(history.state));
  addEventListener("popstate", (event) => {
    clearTimeout(timer);
    goingBack = true;
    putBack(placeOf(event.state));
  });
  // The router says this of itself, after it has put a page on the history.
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
