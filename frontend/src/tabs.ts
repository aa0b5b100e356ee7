/** Messages between the tabs of this browser: sign-ins and sign-outs, changes of the cart, notifications read. */
type Word = "session" | "cart" | "read" | "address";

const channel = "BroadcastChannel" in window ? new BroadcastChannel("shopwire") : null;

/** Tell the other tabs and windows that something changed; each asks the shop itself. */
export function tellOthers(word: Word): void {
  channel?.postMessage(word);
}

/** Call `act` whenever another tab or window sends `word`; returns a function that ends this. */
export function hearOthers(word: Word, act: () => void): () => void {
  const hear = (event: MessageEvent<unknown>) => event.data === word && act();
  channel?.addEventListener("message", hear);
  return () => channel?.removeEventListener("message", hear);
}
